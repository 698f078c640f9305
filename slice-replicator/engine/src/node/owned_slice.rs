//! A slice that this node owns: its ledger of checkpoints.

use super::track::Track;
use escape_proto::{BodyKind, ChainHash, CheckpointHead, CheckpointNo, Epoch, Flow, GroupId, SliceId};

/// Checkpoints whose generation is remembered. If more are on their way, the oldest are forgotten: an acknowledgement
/// of a forgotten one releases nothing, the next one (acknowledgements are cumulative) does.
const OUTSTANDING_MAX: usize = 8;

/// Which receiver of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The recorded standby.
    Standby,
    /// The node that is becoming standby (T3).
    Candidate,
}

/// One slice of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OwnedSlice {
    pub slice: SliceId,
    pub group: GroupId,
    pub flow: Flow,
    pub rcv_covered: u32,
    /// The latest checkpoint: what the own image is.
    pub last: CheckpointNo,
    pub chain: ChainHash,
    pub generation: u64,
    /// Highest generation released.
    pub released: Option<u64>,
    /// The latest checkpoint is CLOSE.
    pub closing: bool,
    /// CLOSE is committed and the caller was told; kept only until a candidate has it too.
    pub closed: bool,
    /// The guest has not said yet whether it took the slice.
    pub plugging: bool,
    /// It is at rest for a move, and its latest checkpoint is all of it (T9).
    pub frozen: bool,
    pub standby: Track,
    pub candidate: Track,
    /// Place in the group's list of members.
    pub position: usize,
    outstanding: [Outstanding; OUTSTANDING_MAX],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Outstanding {
    no: u64,
    generation: u64,
    chain: ChainHash,
}

/// What an acknowledgement says about a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledged {
    /// Nothing (too old, forgotten, or never sent).
    Nothing,
    /// The receiver's image is this checkpoint, which covers this generation.
    Covers(u64),
    /// The receiver's image is not what was sent.
    Diverged,
}

impl OwnedSlice {
    /// A slice before its first checkpoint, at this place among its group's members.
    pub fn new(slice: SliceId, group: GroupId, flow: Flow, position: usize) -> Self {
        Self {
            slice,
            group,
            flow,
            rcv_covered: 0,
            last: CheckpointNo(0),
            chain: ChainHash::START,
            generation: 0,
            released: None,
            closing: false,
            closed: false,
            plugging: false,
            frozen: false,
            standby: Track::default(),
            candidate: Track::default(),
            position,
            outstanding: [Outstanding { no: 0, generation: 0, chain: ChainHash::START }; OUTSTANDING_MAX],
        }
    }

    /// The image is now checkpoint `no`.
    pub fn advance(&mut self, no: CheckpointNo, generation: u64, rcv_covered: u32, chain: ChainHash) {
        self.last = no;
        self.generation = generation;
        self.rcv_covered = rcv_covered;
        self.chain = chain;
        if let Some(place) = self.outstanding.get_mut(no.0 as usize % OUTSTANDING_MAX) {
            *place = Outstanding { no: no.0, generation, chain };
        }
    }

    /// What an acknowledgement of `no` with this chain means.
    pub fn acknowledged(&self, no: CheckpointNo, chain: ChainHash) -> Acknowledged {
        match self.outstanding.get(no.0 as usize % OUTSTANDING_MAX) {
            Some(o) if no.0 != 0 && o.no == no.0 && o.chain == chain => Acknowledged::Covers(o.generation),
            Some(o) if no.0 != 0 && o.no == no.0 => Acknowledged::Diverged,
            _ => Acknowledged::Nothing,
        }
    }

    /// A receiver's progress.
    pub const fn track(&self, role: Role) -> &Track {
        match role {
            Role::Standby => &self.standby,
            Role::Candidate => &self.candidate,
        }
    }

    /// A receiver's progress.
    pub const fn track_mut(&mut self, role: Role) -> &mut Track {
        match role {
            Role::Standby => &mut self.standby,
            Role::Candidate => &mut self.candidate,
        }
    }

    /// The head of the latest checkpoint, sent as `kind`.
    pub const fn head(&self, epoch: Epoch, kind: BodyKind) -> CheckpointHead {
        let base = match kind {
            BodyKind::Delta | BodyKind::Close => self.last.0.saturating_sub(1),
            BodyKind::Create | BodyKind::Full => 0,
        };
        CheckpointHead {
            group: self.group,
            epoch,
            slice: self.slice,
            no: self.last,
            base: CheckpointNo(base),
            kind,
            generation: self.generation,
            rcv_covered: self.rcv_covered,
            flow: self.flow,
            chain: self.chain,
        }
    }
}
