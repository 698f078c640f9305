//! Operator ↔ orchestrator: what people ask.

use crate::status::CellStatus;
use serde::{Deserialize, Serialize};

/// Operator → orchestrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorRequest {
    /// How is the cell?
    Status,
}

/// Orchestrator → operator, one for each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorReply {
    /// So.
    Status(CellStatus),
}
