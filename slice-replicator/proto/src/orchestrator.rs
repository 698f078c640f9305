//! Node ↔ orchestrator, and the orchestrator's pushes to the edge.

use crate::ids::{Epoch, GroupId, Member, NodeId, Revision, SliceId};
use crate::lease::LeaseReport;
use crate::operator::{MoveAnswer, MoveWhat};
use crate::placement::BucketTable;
use crate::record::{GroupRecord, LeaseRecord, MoveRecord, NodeRecord, QuarantineRecord, Suspect};
use serde::{Deserialize, Serialize};

/// "I want to be in the cell" (T1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Label for anti-affinity.
    pub host: String,
    /// Digest of the guest image.
    pub digest: [u8; 32],
    /// `address:port` of its replication link.
    pub addr: String,
    /// Leases wanted.
    pub leases: u32,
    /// Highest store revision that the node has ever seen (0 = none): a lower store is refused.
    pub seen: Revision,
    /// Cluster that the node has ever been in, if any.
    pub cluster: Option<[u8; 16]>,
    /// Name of what the process remembers: drawn at random when it started with nothing, kept as long as it forgets no
    /// image. A join with the name that the node's record has comes from the very process whose life that is. 0 = none.
    pub memory: u64,
}

/// Answer to a join.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinReply {
    /// Welcome; records follow as [`FromOrchestrator::Records`] in the same stream.
    Joined {
        /// The new life.
        me: Member,
        /// Cluster id.
        cluster: [u8; 16],
        /// Leases of the node.
        leases: Vec<LeaseRecord>,
        /// Groups of a former life that this one goes on with; images of all others are to be dropped.
        claimed: Vec<GroupId>,
        /// Moves that somebody has not put in order yet: perhaps images that this process remembers.
        moves: Vec<MoveRecord>,
        /// Hash seed of flow placement.
        placement_seed: u32,
    },
    /// Refused, and why.
    Refused {
        /// For people.
        cause: String,
    },
}

/// Live slices of a node, as it reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SliceCounts {
    /// Owned, with an acknowledged checkpoint at a standby.
    pub protected: u32,
    /// Owned, in a Solo group or not yet synced.
    pub solo: u32,
    /// Images held for others.
    pub standby: u32,
    /// Frames held in the valve now.
    pub held_frames: u32,
    /// Age of the oldest held frame, microseconds.
    pub held_age_us: u64,
}

/// Live slices of one group, as its owner reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupSlices {
    /// The group.
    pub group: GroupId,
    /// With an acknowledged checkpoint at its standby.
    pub protected: u32,
    /// Without.
    pub solo: u32,
}

/// A step worth telling people; the orchestrator stamps and keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Milestone {
    /// This node suspects that one.
    Suspected(Member),
    /// The gate of a group is closed at this epoch.
    GateClosed(GroupId, Epoch),
    /// First slice of an activation plugged.
    FirstPlugged(GroupId, Epoch),
    /// Last slice of an activation plugged; how many.
    LastPlugged(GroupId, Epoch, u32),
    /// The guest crashed or hangs.
    GuestDown(String),
    /// The guest runs.
    GuestReady,
    /// The node stepped down from a group.
    Deposed(GroupId, Epoch),
    /// A group is protected again.
    Protected(GroupId, Epoch, u32),
    /// A slice was quarantined: slot, incarnation, cause.
    Quarantined(u32, u64, String),
}

/// Node → orchestrator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ToOrchestrator {
    /// First message.
    Join(JoinRequest),
    /// Compare-and-swap of one group by its owner (T3, T4, T11): applied if the record's epoch is `to.epoch` − 1 and
    /// the sender is its owner and Up; T3 also wants the new standby Up on another host; T4 wants the old one not Up.
    Cas {
        /// Returned in the outcome.
        attempt: u64,
        /// The record wanted.
        to: GroupRecord,
    },
    /// What is the record now? (T7 for Solo groups after a pause)
    Read {
        /// Returned in the outcome.
        attempt: u64,
        /// The group.
        group: GroupId,
    },
    /// T9: slices of a group of the sender's leave it for a group of their own, which the standby owns and the sender stands by
    /// for: made if the record is Paired at this very epoch and both nodes are Up.
    Move {
        /// Returned in the outcome.
        attempt: u64,
        /// The group.
        group: GroupId,
        /// Its epoch.
        epoch: Epoch,
        /// The slices: frozen, and all that they are is acknowledged by the standby.
        slices: Vec<SliceId>,
    },
    /// The sender has no slice in memory any more that this move took out of its former group.
    Moved {
        /// The move's group.
        to: GroupId,
    },
    /// What became of an operator's wish to move a session.
    MoveAnswer {
        /// The wish's number.
        request: u64,
        /// The answer.
        answer: MoveAnswer,
    },
    /// The guest of this node is down: hand its Paired groups to their standbys (T11). The node stays Up.
    GuestDown {
        /// For people.
        cause: String,
        /// The sender's number of this crash: a repeated report is not a second one.
        crash: u64,
        /// How many slices were referenced when it died: one alone is charged.
        referenced: u32,
        /// Which of them are the sender's and not known yet (64 are looked at).
        suspects: Vec<Suspect>,
    },
    /// A slice was given up: it must not come back, wherever its group goes.
    Quarantine {
        /// The slice and its group, which the sender owns.
        suspect: Suspect,
        /// For people.
        cause: String,
    },
    /// Figures for people.
    Counts(SliceCounts),
    /// The same of every group that the sender owns.
    GroupCounts(Vec<GroupSlices>),
    /// Leases held and wanted: now and then, and when slots run short.
    Leases(LeaseReport),
    /// A step of a failover, stamped by the sender: microseconds of CLOCK_MONOTONIC.
    Milestone {
        /// When.
        at_us: u64,
        /// What.
        what: Milestone,
    },
}

/// How a compare-and-swap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CasOutcome {
    /// The record is now this.
    Applied(GroupRecord),
    /// It is this, and the change was not made.
    Refused(GroupRecord),
    /// Answer to a read.
    Is(GroupRecord),
    /// There is no such group.
    NoGroup,
}

/// How a [`ToOrchestrator::Move`] ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MoveOutcome {
    /// The slices are in this group.
    Moved(GroupId),
    /// They are where they were.
    Refused {
        /// For people.
        cause: String,
    },
}

/// Orchestrator → node, and → edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FromOrchestrator {
    /// Answer to a join.
    Join(JoinReply),
    /// Records as of a revision: all of them after a join or reconnect, then those that changed.
    Records {
        /// The store's revision.
        revision: Revision,
        /// Nodes.
        nodes: Vec<NodeRecord>,
        /// Groups.
        groups: Vec<GroupRecord>,
        /// Leases.
        leases: Vec<LeaseRecord>,
        /// Suspects and slices that were given up. That a record is forgotten is not told.
        quarantine: Vec<QuarantineRecord>,
        /// Moves. That a record is forgotten is not told.
        moves: Vec<MoveRecord>,
        /// Placement, if it changed.
        buckets: Option<BucketTable>,
    },
    /// Answer to Cas or Read.
    Outcome {
        /// The request's.
        attempt: u64,
        /// The group.
        group: GroupId,
        /// How it ended.
        outcome: CasOutcome,
    },
    /// Answer to Move.
    MoveOutcome {
        /// The request's.
        attempt: u64,
        /// The group that the slices were in.
        group: GroupId,
        /// How it ended.
        outcome: MoveOutcome,
    },
    /// An operator wants a session moved: every node is asked, its owner acts. Each answers.
    MoveAsked {
        /// To return.
        request: u64,
        /// Which session.
        what: MoveWhat,
        /// Where to; `None` = to its standby.
        to: Option<NodeId>,
    },
}
