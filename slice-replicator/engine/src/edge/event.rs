//! What happens to the edge.

use super::command::GroupSteering;
use escape_proto::{BucketTable, EdgeRequest, GroupRecord, Member, NodeRecord};

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeEvent {
    /// Records as the orchestrator pushed them: all after a (re)connect, then those that changed.
    Records {
        /// Nodes.
        nodes: Vec<NodeRecord>,
        /// Groups.
        groups: Vec<GroupRecord>,
        /// Placement of new flows, if it changed.
        buckets: Option<BucketTable>,
    },
    /// A message of a node.
    Request {
        /// The sender, as its link bound it.
        from: Member,
        /// The message.
        request: EdgeRequest,
    },
    /// The fabric has carried out an [`super::EdgeCommand::Steer`].
    Steered {
        /// What it was, as in the command.
        groups: Vec<GroupSteering>,
    },
    /// The fabric failed to carry it out: it is tried again at the next tick.
    SteerFailed {
        /// What it was, as in the command.
        groups: Vec<GroupSteering>,
    },
    /// Time passed.
    Tick,
}
