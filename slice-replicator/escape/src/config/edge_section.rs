//! `[edge]`: the machine that steers clients' flows.

use serde::{Deserialize, Serialize};

/// What the edge is told beside its addresses and the nodes' ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Edge {
    /// Interface towards the clients.
    pub uplink: String,
    /// Seconds after which a flow that was learned from a SYN and not confirmed by its owner is forgotten; 0 = never.
    pub learned_expiry_s: u64,
}

impl Default for Edge {
    fn default() -> Self {
        Self { uplink: "up0".into(), learned_expiry_s: 60 }
    }
}
