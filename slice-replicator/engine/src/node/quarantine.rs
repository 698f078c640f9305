//! Slices that were given up and must not come back, and suspects: plugged last, and one at a time (T6).

use super::command::Command;
use super::engine::NodeEngine;
use super::owned_group::OwnedGroup;
use crate::{Micros, Mutant};
use escape_proto::{Epoch, GroupId, Member, QuarantineRecord, SliceId, Suspect};
use std::collections::{BTreeMap, VecDeque};

/// Most suspects and given up slices that a node remembers; when full, the one heard of longest ago is forgotten.
const KNOWN_MAX: usize = 1_024;
/// Suspects of one crash.
const SUSPECTS_MAX: usize = 64;

/// What this node knows of bad slices, and has still to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Quarantine {
    known: BTreeMap<Suspect, Known>,
    /// Oldest first, each once.
    order: VecDeque<Suspect>,
    /// The last crash of the own guest, until the store knows who is suspected of it.
    crash: Option<Crash>,
    /// Suspects that wait for their turn to be plugged.
    waiting: VecDeque<Suspect>,
    /// The one that was plugged last.
    last_plugged: Option<(SliceId, Micros)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    given_up: bool,
    /// The store knows that it was given up.
    recorded: bool,
    cause: String,
    told_at: Option<Micros>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Crash {
    number: u64,
    referenced: u32,
    suspects: Vec<Suspect>,
}

impl Quarantine {
    /// Remembers; what was given up stays given up.
    fn learn(&mut self, suspect: Suspect, new: Known) {
        if let Some(known) = self.known.get_mut(&suspect) {
            known.recorded |= new.recorded;
            if new.given_up && !known.given_up {
                *known = Known { recorded: known.recorded, ..new };
            }
            return;
        }
        if self.order.len() >= KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(suspect);
        self.known.insert(suspect, new);
    }

    /// The slice has left the group: what this node had to tell the store of it there is nobody's business any more.
    pub(super) fn note_moved(&mut self, suspect: Suspect) {
        if let Some(known) = self.known.get_mut(&suspect) {
            known.recorded = true;
        }
        if let Some(crash) = &mut self.crash {
            crash.suspects.retain(|s| *s != suspect);
        }
    }

    fn is_suspect(&self, suspect: Suspect) -> bool {
        !self.known.is_empty() && self.known.get(&suspect).is_some_and(|k| !k.given_up)
    }
}

impl NodeEngine {
    /// Must this slice of this group stay away? (Who owns another group says nothing about it.)
    pub(super) fn is_given_up(&self, group: GroupId, slice: SliceId) -> bool {
        let known = &self.quarantine.known;
        !known.is_empty()
            && known.get(&Suspect { group, slice }).is_some_and(|k| k.given_up)
            && self.config.broken != Some(Mutant::QuarantineForgotten)
    }

    /// The VMM gave a slice up: its standby drops its image at once, and the store is told until it knows.
    pub(super) fn quarantined(&mut self, now: Micros, suspect: Suspect, cause: String, out: &mut Vec<Command>) {
        let Suspect { group, slice } = suspect;
        if self.ledger.get(slice).is_none_or(|e| e.group != group) {
            return;
        }
        self.quarantine.learn(suspect, Known { given_up: true, recorded: false, cause, told_at: None });
        self.lose_slice(now, suspect, out);
        if let Some(g) = self.owned.get(&group) {
            let epoch = g.record.epoch;
            let standby = g.record.standby.filter(|_| g.standby_linked);
            let candidate = g.candidate().filter(|_| g.candidate_linked);
            let receivers = standby.into_iter().chain(candidate);
            out.extend(receivers.map(|to| Command::SendQuarantine { to, group, epoch, slice }));
        }
        self.tell_quarantine(now, out);
    }

    /// A peer gave up a slice of its group: no image of it is kept here.
    pub(super) fn peer_quarantined(&mut self, from: Member, suspect: Suspect, epoch: Epoch, out: &mut Vec<Command>) {
        let group = suspect.group;
        // An owner that has not heard yet that the slice has left its group says nothing about where it is now (T9).
        let speaks = self.view.group(group).is_some_and(|r| r.owner == from && r.epoch == epoch);
        if speaks && !self.moved.has_left(group, suspect.slice) {
            let cause = format!("given up by {from}");
            self.quarantine.learn(suspect, Known { given_up: true, recorded: false, cause, told_at: None });
            self.drop_image(suspect, out);
        }
    }

    /// What the store knows of bad slices.
    pub(super) fn quarantine_records(&mut self, now: Micros, records: Vec<QuarantineRecord>, out: &mut Vec<Command>) {
        for record in records {
            let QuarantineRecord { slice, group, given_up, cause, by, crash, .. } = record;
            if let Some(own) = &mut self.quarantine.crash
                && Some(by) == self.me
                && crash == own.number
            {
                own.suspects.retain(|s| s.slice != slice);
            }
            let known = Known { given_up, recorded: given_up, cause: cause.clone(), told_at: None };
            let suspect = Suspect { group, slice };
            self.quarantine.learn(suspect, known);
            if given_up && self.is_given_up(group, slice) {
                self.drop_image(suspect, out);
                self.give_up(now, suspect, cause, out);
            }
        }
        self.quarantine.crash.take_if(|c| c.suspects.is_empty());
    }

    /// The receiver of a slice knows that it was given up, by an owner whose word did not reach this one.
    pub(super) fn give_up(&mut self, now: Micros, suspect: Suspect, cause: String, out: &mut Vec<Command>) {
        let Suspect { group, slice } = suspect;
        if self.ledger.get(slice).is_some_and(|e| e.group == group) {
            let known = Known { given_up: true, recorded: false, cause: cause.clone(), told_at: None };
            self.quarantine.learn(suspect, known);
            self.lose_slice(now, suspect, out);
            out.push(Command::GiveUp { group, slice, cause });
        }
    }

    fn drop_image(&mut self, suspect: Suspect, out: &mut Vec<Command>) {
        let of_group = self.images.get(suspect.slice).filter(|i| i.group == suspect.group && !i.closed);
        if of_group.is_some() && self.config.broken != Some(Mutant::QuarantineForgotten) {
            self.images.remove(suspect.slice);
            out.push(Command::FreeImage { slice: suspect.slice });
        }
    }

    /// Tells the store of given up slices of own groups that it does not know yet.
    pub(super) fn tell_quarantine(&mut self, now: Micros, out: &mut Vec<Command>) {
        let (resend_us, owned) = (self.config.report_resend_us, &self.owned);
        let untold = self.quarantine.known.iter_mut().filter(|(_, k)| k.given_up && !k.recorded);
        for (suspect, known) in untold.filter(|(s, _)| owned.contains_key(&s.group)) {
            if known.told_at.is_none_or(|at| now.saturating_sub(at) >= resend_us) {
                known.told_at = Some(now);
                out.push(Command::ReportQuarantine { suspect: *suspect, cause: known.cause.clone() });
            }
        }
    }

    /// The own guest died while these slices were referenced.
    pub(super) fn suspect(&mut self, slices: &[SliceId]) {
        let owned = slices.iter().filter_map(|s| self.ledger.get(*s));
        let suspects: Vec<Suspect> =
            owned.map(|e| Suspect { group: e.group, slice: e.slice }).take(SUSPECTS_MAX).collect();
        for suspect in &suspects {
            let known = Known { given_up: false, recorded: false, cause: String::new(), told_at: None };
            self.quarantine.learn(*suspect, known);
        }
        self.quarantine.waiting.clear();
        self.quarantine.last_plugged = None;
        let number = self.number();
        let referenced = u32::try_from(slices.len()).unwrap_or(u32::MAX);
        self.quarantine.crash = Some(Crash { number, referenced, suspects }).filter(|c| !c.suspects.is_empty());
    }

    /// Nothing of it was this life's; what was learned stays true.
    pub(super) fn forget_crash(&mut self) {
        self.quarantine.crash = None;
        self.quarantine.waiting.clear();
        self.quarantine.last_plugged = None;
    }

    /// The store is still to hear of a crash.
    pub(super) const fn has_open_crash(&self) -> bool {
        self.quarantine.crash.is_some()
    }

    /// Tells it, and that the guest is down.
    pub(super) fn tell_crash(&self, out: &mut Vec<Command>) {
        let open = self.quarantine.crash.as_ref();
        let (crash, referenced) = open.map_or((0, 0), |c| (c.number, c.referenced));
        let suspects = open.map(|c| c.suspects.clone()).unwrap_or_default();
        out.push(Command::ReportGuestDown { crash, referenced, suspects });
    }

    /// Takes the suspects out of what is to be plugged now; they come later.
    pub(super) fn put_suspects_off(&mut self, group: GroupId, slices: &mut Vec<super::PlugSlice>) {
        let quarantine = &mut self.quarantine;
        quarantine.waiting.retain(|s| s.group != group);
        slices.retain(|plug| {
            let suspect = Suspect { group, slice: plug.slice };
            let later = quarantine.is_suspect(suspect);
            if later {
                quarantine.waiting.push_back(suspect);
            }
            !later
        });
    }

    /// Plugs the next suspect, if all other slices are decided and the last one has run for a while.
    pub(super) fn plug_next_suspect(&mut self, now: Micros, out: &mut Vec<Command>) {
        if self.quarantine.waiting.is_empty() || !self.guest_up {
            return;
        }
        let apart_us = self.config.suspects_apart_us;
        let waiting = &self.quarantine.waiting;
        let busy = |slice: SliceId| !waiting.iter().any(|s| s.slice == slice);
        // The last one may be the next one: its group went to another node and came back.
        let plugging = |slice: SliceId| busy(slice) && self.ledger.get(slice).is_some_and(|e| e.plugging);
        if let Some((last, at)) = self.quarantine.last_plugged
            && (now.saturating_sub(at) < apart_us || plugging(last))
        {
            return;
        }
        let under_way = |group| self.owned.get(&group).is_some_and(OwnedGroup::is_plugging);
        if self.ledger.iter().any(|(slice, e)| e.plugging && busy(slice) && under_way(e.group)) {
            return;
        }
        while let Some(Suspect { group, slice }) = self.quarantine.waiting.pop_front() {
            let plugging = self.owned.get(&group).is_some_and(OwnedGroup::is_plugging);
            let entry = self.ledger.get(slice).filter(|e| plugging && e.plugging && e.group == group);
            if let Some(e) = entry {
                let plug = super::PlugSlice { slice, flow: e.flow, no: e.last };
                self.quarantine.last_plugged = Some((slice, now));
                return out.push(Command::Plug { group, slices: vec![plug] });
            }
        }
    }
}
