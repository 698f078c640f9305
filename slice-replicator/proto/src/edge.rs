//! Node ↔ edge.

use crate::ids::{Epoch, Flow, GroupId, NodeId};
use serde::{Deserialize, Serialize};

/// One flow of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FlowEntry {
    /// The flow.
    pub flow: Flow,
    /// Its group.
    pub group: GroupId,
}

/// Node → edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EdgeRequest {
    /// The owner has closed its gate at this epoch: flip (T8) once the record says so too.
    GateClosed {
        /// Groups and epochs.
        groups: Vec<(GroupId, Epoch)>,
    },
    /// Flows that the sender owns (refresh after a plug, and batches of new ones).
    Flows(Vec<FlowEntry>),
    /// Flows that ended.
    Closed(Vec<Flow>),
}

/// Edge → node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EdgeReply {
    /// The fabric now steers these groups to the asker.
    Flipped {
        /// Groups and epochs.
        groups: Vec<(GroupId, Epoch)>,
    },
    /// The edge knows a higher epoch.
    Stale {
        /// The group.
        group: GroupId,
        /// What it has applied.
        applied: Epoch,
        /// To whom.
        owner: NodeId,
    },
}
