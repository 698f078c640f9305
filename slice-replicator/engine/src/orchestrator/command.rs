//! What the orchestrator is to do.

use super::event::LinkId;
use crate::store::Txn;
use escape_proto::{Epoch, FromOrchestrator, GroupId, Member, NodeId, SliceCounts};

/// Who gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Receiver {
    /// A connection (during its join).
    Link(LinkId),
    /// One joined node.
    Node(Member),
    /// Every joined node that has a link.
    AllNodes,
    /// The edge.
    Edge,
}

/// A command; carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrchestratorCommand {
    /// Write to the store durably; report [`super::OrchestratorEvent::TxnDone`]. One at a time is under way; a repeated
    /// `id` is the same transaction again (if the first is still queued, drop the second).
    Txn {
        /// Returned with the outcome.
        id: u64,
        /// The transaction.
        txn: Txn,
    },
    /// Send a message. After `Joined` to a link, the link is that member's.
    Send {
        /// To whom.
        to: Receiver,
        /// What.
        message: FromOrchestrator,
    },
    /// Tell people (timeline, metrics, log).
    Note(Note),
}

/// A step worth telling people; the runtime stamps and keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// A node joined.
    Joined {
        /// Its life.
        member: Member,
    },
    /// A join was refused.
    JoinRefused {
        /// The node.
        node: NodeId,
        /// Why.
        cause: String,
    },
    /// The orchestrator suspects a node.
    Suspected {
        /// The node.
        member: Member,
        /// Since its last beat, microseconds.
        silent_us: u64,
    },
    /// It beats again.
    Recovered {
        /// The node.
        member: Member,
    },
    /// The decision that a node is dead was made (its transaction follows).
    DecidedDead {
        /// The node.
        member: Member,
        /// Since its last beat, microseconds.
        silent_us: u64,
        /// Nodes that suspect it too.
        detected_by: Vec<NodeId>,
    },
    /// The node is Dead in the store (T5).
    Dead {
        /// The node.
        member: Member,
    },
    /// A group has a new owner (T5, T11).
    Handed {
        /// The group.
        group: GroupId,
        /// Its new epoch.
        epoch: Epoch,
        /// The new owner.
        to: Member,
    },
    /// No node of the cell has a copy of the group; a process that was cut off or paused may still bring one.
    Orphaned {
        /// The group.
        group: GroupId,
        /// Its last owner.
        owner: Member,
    },
    /// A node that joined anew brought its copy of the group.
    Claimed {
        /// The group.
        group: GroupId,
        /// Its new epoch.
        epoch: Epoch,
        /// The new life.
        to: Member,
    },
    /// A group is lost: no copy is left, or none was brought in time. Reported, never repaired.
    Lost {
        /// The group.
        group: GroupId,
        /// Its last owner.
        owner: Member,
    },
    /// Slices are another node's (T9).
    Moved {
        /// Who had them.
        from: Member,
        /// Who has them.
        to: Member,
        /// The group that was made for them.
        group: GroupId,
        /// How many.
        slices: usize,
    },
    /// A node's own milestone.
    Milestone {
        /// The node.
        from: Member,
        /// Its clock, microseconds.
        at_us: u64,
        /// What.
        what: escape_proto::Milestone,
    },
    /// A node's figures.
    Counts {
        /// The node.
        from: Member,
        /// The figures.
        counts: SliceCounts,
    },
    /// The store does not answer: no failover is possible until it does; the data path goes on.
    StoreUnavailable {
        /// For people.
        cause: String,
    },
    /// A request was dropped because too many wait.
    Overloaded,
}
