//! What the edge is to do.

use escape_proto::{BucketTable, EdgeReply, Epoch, Flow, FlowEntry, GroupId, Member};

/// How the fabric treats a group's flows: owner, permission to send and mirror are one thing (T8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupSteering {
    /// The group.
    pub group: GroupId,
    /// Epoch of the record that says so; the fabric refuses lower ones.
    pub epoch: Epoch,
    /// Gets the flows' packets, and is the only one whose frames for them are let through.
    pub owner: Member,
    /// Gets copies of the inbound packets.
    pub mirror: Option<Member>,
}

/// A command; carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeCommand {
    /// Steer these groups, all in one fabric transaction; then report [`super::EdgeEvent::Steered`].
    Steer {
        /// The groups.
        groups: Vec<GroupSteering>,
        /// Flows that are bound to some of them in the same transaction: they were another group's until now (T9), and no
        /// packet may find them between the two.
        flows: Vec<FlowEntry>,
    },
    /// These flows belong to this group (they follow its steering), whatever their bucket says.
    Bind {
        /// The group.
        group: GroupId,
        /// The flows.
        flows: Vec<Flow>,
    },
    /// These flows ended.
    Unbind {
        /// The flows.
        flows: Vec<Flow>,
    },
    /// Placement of flows that are not bound (new ones).
    Place {
        /// The table.
        buckets: BucketTable,
    },
    /// Answer a node.
    Reply {
        /// To whom.
        to: Member,
        /// What.
        reply: EdgeReply,
    },
}
