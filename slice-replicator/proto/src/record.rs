//! The store's records (PROTOCOL.md, "Records and transitions").

use crate::ids::{Epoch, GroupId, LeaseId, Member, NodeId, SliceId};
use serde::{Deserialize, Serialize};

/// Is this life of a node in the cell?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeState {
    /// It may own and stand by.
    Up,
    /// Final for this incarnation.
    Dead,
}

/// `node/<n>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Node and its present (or last) life.
    pub member: Member,
    /// Up or Dead.
    pub state: NodeState,
    /// Label for anti-affinity: owner and standby of a group are never on one host.
    pub host: String,
    /// Digest of the guest image; nodes of a cell share it.
    pub digest: [u8; 32],
    /// `address:port` of the replication link.
    pub addr: String,
    /// Name of what this life's process remembers; 0 = nothing that a later life could go on with.
    pub memory: u64,
}

/// Who protects a group's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// A release needs the standby's acknowledgement.
    Paired,
    /// A release needs the own image only (unprotected; counted).
    Solo,
    /// No copy is left; reported.
    Lost,
}

/// `group/<g>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The group.
    pub group: GroupId,
    /// Compared and raised by every change.
    pub epoch: Epoch,
    /// Who may release output.
    pub owner: Member,
    /// Who acknowledges; `Some` exactly when `mode` is Paired.
    pub standby: Option<Member>,
    /// Paired, Solo or Lost.
    pub mode: Mode,
}

impl GroupRecord {
    /// A fresh group of a node that has just joined (T1).
    pub const fn fresh(group: GroupId, owner: Member) -> Self {
        Self { group, epoch: Epoch(1), owner, standby: None, mode: Mode::Solo }
    }
    /// The first record of a group that a move makes (T9): the former standby owns, the former owner stands by.
    pub const fn of_move(group: GroupId, owner: Member, standby: Member) -> Self {
        Self { group, epoch: Epoch(1), owner, standby: Some(standby), mode: Mode::Paired }
    }
    /// The record after T3.
    pub const fn paired_with(self, standby: Member) -> Self {
        Self { epoch: self.epoch.next(), standby: Some(standby), mode: Mode::Paired, ..self }
    }
    /// The record after T4, and after T11 of a Solo group.
    pub const fn solo(self) -> Self {
        Self { epoch: self.epoch.next(), standby: None, mode: Mode::Solo, ..self }
    }
    /// The record after T5: the standby owns.
    pub const fn handed_to(self, owner: Member) -> Self {
        Self { epoch: self.epoch.next(), owner, standby: None, mode: Mode::Solo, ..self }
    }
    /// The record when no copy is left.
    pub const fn lost(self) -> Self {
        Self { epoch: self.epoch.next(), standby: None, mode: Mode::Lost, ..self }
    }
}

/// What may happen with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LeaseState {
    /// The holder allocates from it.
    Active,
    /// The holder is gone; slices in it live on elsewhere.
    Draining,
    /// Nobody holds a slice of it.
    Free,
}

/// `lease/<r>`: slots `64 r .. 64 r + 64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The lease.
    pub lease: LeaseId,
    /// Who may allocate.
    pub holder: Member,
    /// One more at each lease: upper half of slot incarnations.
    pub generation: u32,
    /// Active, Draining or Free.
    pub state: LeaseState,
}

/// `quarantine/<slot, inc>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// The slice.
    pub slice: SliceId,
    /// The group whose owner reported it.
    pub group: GroupId,
    /// Crashes charged to it.
    pub count: u32,
    /// It is not to be plugged any more, and its images are dropped. Else it is a suspect: plugged last, and alone.
    pub given_up: bool,
    /// Why; empty for a suspect.
    pub cause: String,
    /// Who reported it last.
    pub by: Member,
    /// The reporter's number of the crash; 0 = it was not one.
    pub crash: u64,
}

/// A slice of a group of the sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Suspect {
    /// The group.
    pub group: GroupId,
    /// The slice.
    pub slice: SliceId,
}

/// `move/<g'>`: slices that left a group for one that was made for them, in the transaction that made it (T9).
///
/// A slice never comes back to a group that it has left, and a move's group is always newer than the one before it, so that of
/// two groups that a slice is said to be in, the one with the higher id is right.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MoveRecord {
    /// The slices' group from now on. Its record begins with the former standby as owner, and the former owner as standby.
    pub to: GroupId,
    /// The group that they were in.
    pub from: GroupId,
    /// The slices: 1 to [`Self::SLICES_MAX`].
    pub slices: Vec<SliceId>,
    /// Who asked: the owner of `from`.
    pub by: Member,
    /// The owner's number of the request: one that comes twice is the same move.
    pub attempt: u64,
    /// Lives that have these slices in memory as slices of `from`, and have not said yet that they have put that right.
    pub waits_for: Vec<Member>,
}

impl MoveRecord {
    /// Slices of one move: what one transaction and one group's stretch of plugging can carry without others noticing.
    pub const SLICES_MAX: usize = 64;
}

impl QuarantineRecord {
    /// A suspect that was never charged.
    pub const fn of(suspect: Suspect, by: Member) -> Self {
        let Suspect { group, slice } = suspect;
        Self { slice, group, count: 0, given_up: false, cause: String::new(), by, crash: 0 }
    }
}

impl NodeRecord {
    /// Is exactly this life of the node up?
    pub fn is_up(&self, member: Member) -> bool {
        self.member == member && self.state == NodeState::Up
    }
    /// The node.
    pub const fn node(&self) -> NodeId {
        self.member.node
    }
}
