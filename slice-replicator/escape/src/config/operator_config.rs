//! What a person's commands need to ask a cell.

use std::net::SocketAddr;

use escape_link::ClusterSecrets;
use serde::{Deserialize, Serialize};

/// Configuration of an operator. Unknown keys are errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// The orchestrator's link.
    pub orchestrator: SocketAddr,
    /// The operator's identity: it may ask, and move sessions.
    pub secrets: ClusterSecrets,
}
