//! Operator ↔ orchestrator: what people ask.

use crate::ids::{GroupId, Member, NodeId, SliceId};
use crate::status::CellStatus;
use serde::{Deserialize, Serialize};

/// Operator → orchestrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorRequest {
    /// How is the cell?
    Status,
    /// Move a live session (T9).
    Move {
        /// Which.
        what: MoveWhat,
        /// Where to; `None` = to its standby.
        to: Option<NodeId>,
    },
}

/// Orchestrator → operator, one for each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorReply {
    /// So.
    Status(CellStatus),
    /// What became of the move.
    Move(MoveAnswer),
}

/// How people name a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MoveWhat {
    /// By its slice.
    Slice(SliceId),
    /// By its client's address and port.
    Client {
        /// IPv4 address.
        ip: [u8; 4],
        /// TCP port.
        port: u16,
    },
}

/// What became of a wish to move a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MoveAnswer {
    /// It is there.
    Moved {
        /// The slice.
        slice: SliceId,
        /// Who had it.
        from: Member,
        /// Who has it.
        to: Member,
        /// Its group from now on.
        group: GroupId,
        /// From the freeze at the former owner to the store's answer, microseconds.
        frozen_us: u64,
        /// Of these, from the request to the store to its answer, microseconds.
        recorded_us: u64,
    },
    /// It is where it was.
    Refused {
        /// For people.
        cause: String,
        /// It may go a moment later.
        again: bool,
    },
    /// The node that answers does not own it; as the answer to an operator: no node does.
    NotHere,
}
