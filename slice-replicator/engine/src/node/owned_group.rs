//! A group that this node owns.

use super::moves::Moving;
use super::owned_slice::Role;
use crate::Micros;
use escape_proto::{Epoch, GroupRecord, Member, Mode, SliceId};

/// How far the activation is (T6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Checkpoints of the old owner are still being applied to the images; none is acknowledged any more.
    Applying,
    /// The gate is being closed.
    Closing,
    /// The gate is closed; the guest is not there yet.
    AwaitGuest,
    /// The guest takes the slices; so many are not decided.
    Plugging(usize),
    /// All slices run or are given up.
    Running,
}

/// A change of the group's protection under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Change {
    /// None.
    None,
    /// T3: the candidate gets stream and full copies.
    Syncing(Member),
    /// T3: it has them; from here on releases need it too. So many slices still lack its acknowledgement of what was
    /// released without it.
    Draining(Member, usize),
    /// T3: the record is being changed; DUAL until the outcome is known (R1).
    Recording(Member),
    /// T4, T11: the record is being changed to Solo; nothing leaves until the outcome is known (R1, R3).
    Hold,
    /// A sync was given up in this epoch: a new epoch makes its receiver forget what it got (R5, R6).
    Refreshing,
}

/// A compare-and-swap whose outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingCas {
    pub attempt: u64,
    pub to: GroupRecord,
    pub sent_at: Micros,
}

/// What must be answered before anything is released again (T7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// Asked of the standby, else of the store.
    pub of_standby: bool,
    /// It is the standby's knowledge that made the question.
    pub doubt: bool,
    pub number: u64,
    pub sent_at: Micros,
}

/// Walks over the members and sends full copies, a few at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pump {
    /// Members before this place were looked at.
    pub cursor: usize,
    /// Full copies on their way.
    pub in_flight: u32,
    /// Not before this time (after a refusal for a passing cause).
    pub resume_at: Option<Micros>,
}

/// The owner's side of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OwnedGroup {
    pub record: GroupRecord,
    /// Its slices; each knows its place here.
    pub members: Vec<SliceId>,
    pub stage: Stage,
    /// Epoch at which this node became owner (or restarted the group's guest).
    pub active_from: Epoch,
    /// The edge steers the group here.
    pub flipped: bool,
    pub flip_asked_at: Option<Micros>,
    pub change: Change,
    pub cas: Option<PendingCas>,
    pub question: Option<Question>,
    /// Slices that are moving out (T9).
    pub moving: Option<Moving>,
    /// The guest died under the group's slices: they go on elsewhere (Paired) or from the own images (Solo) (T11).
    pub restart: bool,
    pub standby_linked: bool,
    pub candidate_linked: bool,
    /// The candidate has shown that its record is of the present epoch, so that it has forgotten all older images (R6).
    pub candidate_current: bool,
    /// When it last acknowledged or answered.
    pub candidate_heard_at: Micros,
    /// It was asked for that: nonce and time.
    pub candidate_asked: Option<(u64, Micros)>,
    /// Since when the standby has had no link.
    pub standby_lost_at: Option<Micros>,
    pub standby_pump: Pump,
    pub candidate_pump: Pump,
    /// Receivers of syncs that were given up in this epoch. They may hold images that the group has closed since.
    pub tainted: Vec<Member>,
    /// A candidate that had no room, and until when it is not asked again.
    pub avoid: Option<(Member, Micros)>,
    /// No new change before this time (after a refused one).
    pub retry_at: Option<Micros>,
}

/// Whose acknowledgements a release needs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub standby: bool,
    pub candidate: bool,
}

impl OwnedGroup {
    /// A group that this node has just come to own.
    pub const fn new(record: GroupRecord) -> Self {
        Self {
            record,
            members: Vec::new(),
            stage: Stage::Applying,
            active_from: record.epoch,
            flipped: false,
            flip_asked_at: None,
            change: Change::None,
            cas: None,
            question: None,
            moving: None,
            restart: false,
            standby_linked: false,
            candidate_linked: false,
            candidate_current: false,
            candidate_heard_at: 0,
            candidate_asked: None,
            standby_lost_at: None,
            standby_pump: Pump { cursor: 0, in_flight: 0, resume_at: None },
            candidate_pump: Pump { cursor: 0, in_flight: 0, resume_at: None },
            tainted: Vec::new(),
            avoid: None,
            retry_at: None,
        }
    }

    /// Whose acknowledgements a release needs; `None` = nothing may leave.
    pub fn need(&self) -> Option<Need> {
        let blocked = !self.flipped || self.restart || self.question.is_some() || self.change == Change::Hold;
        (!blocked).then(|| Need {
            standby: self.record.mode == Mode::Paired,
            candidate: matches!(self.change, Change::Draining(..) | Change::Recording(_)),
        })
    }

    /// Its gate was closed for the present activation: no input can reach the guest before its slice.
    pub const fn is_gated(&self) -> bool {
        !matches!(self.stage, Stage::Applying | Stage::Closing)
    }

    /// The guest is taking its slices.
    pub const fn is_plugging(&self) -> bool {
        matches!(self.stage, Stage::Plugging(_)) && !self.restart
    }

    /// The node that is becoming standby.
    pub const fn candidate(&self) -> Option<Member> {
        match self.change {
            Change::Syncing(c) | Change::Draining(c, _) | Change::Recording(c) => Some(c),
            Change::None | Change::Hold | Change::Refreshing => None,
        }
    }

    /// No candidate.
    pub const fn forget_candidate(&mut self) {
        self.candidate_linked = false;
        self.candidate_current = false;
        self.candidate_asked = None;
        self.candidate_pump = Pump { cursor: 0, in_flight: 0, resume_at: None };
    }

    /// The receiver in this role, if it can be reached.
    pub fn receiver(&self, role: Role) -> Option<Member> {
        match role {
            Role::Standby => self.record.standby.filter(|_| self.standby_linked),
            Role::Candidate => self.candidate().filter(|_| self.candidate_linked),
        }
    }

    /// The pump of this role.
    pub const fn pump_mut(&mut self, role: Role) -> &mut Pump {
        match role {
            Role::Standby => &mut self.standby_pump,
            Role::Candidate => &mut self.candidate_pump,
        }
    }
}
