//! The commit path of an owner: captured → sent → acknowledged → released (I1).

use super::command::Command;
use super::engine::NodeEngine;
use super::owned_group::{Change, Need, OwnedGroup};
use super::owned_slice::{Acknowledged, OwnedSlice, Role};
use super::track::CloseStep;
use crate::{Micros, Mutant};
use escape_proto::{Ack, BodyKind, ChainHash, Flow, GroupId, Member, Refusal, RefusalCause, SliceId, Suspect};

/// A capture, as the VMM reports it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capture {
    pub group: GroupId,
    pub slice: SliceId,
    pub kind: BodyKind,
    pub generation: u64,
    pub rcv_covered: u32,
    pub flow: Flow,
    pub chain: ChainHash,
}

impl NodeEngine {
    /// Numbers the checkpoint and sends it to whoever must or may have it.
    pub(super) fn captured(&mut self, now: Micros, capture: Capture, out: &mut Vec<Command>) {
        let Capture { group, slice, kind, generation, rcv_covered, flow, chain } = capture;
        let Some(g) = self.owned.get_mut(&group) else { return };
        if self.ledger.get(slice).is_none() {
            // A first checkpoint carries everything; anything else is a rest of a slice that was given up.
            if !matches!(kind, BodyKind::Create | BodyKind::Full) {
                return;
            }
            let entry = OwnedSlice::new(slice, group, flow, g.members.len());
            if self.ledger.insert(slice, entry).is_err() {
                return;
            }
            g.members.push(slice);
        }
        let Some(e) = self.ledger.get_mut(slice).filter(|e| e.group == group && !e.closing) else { return };
        e.advance(e.last.next(), generation, rcv_covered, chain);
        e.closing = kind == BodyKind::Close;
        let kind = if kind == BodyKind::Create && e.last.0 != 1 { BodyKind::Full } else { kind };
        let mut behind = [false; 2];
        for (role, behind) in [Role::Standby, Role::Candidate].into_iter().zip(&mut behind) {
            *behind = !offer(g, e, role, kind, out);
        }
        for (role, behind) in [Role::Standby, Role::Candidate].into_iter().zip(behind) {
            if behind {
                self.pump(now, group, role, out);
            }
        }
        self.settle(slice, true, out);
    }

    /// An acknowledgement counts if group, epoch, incarnation and hash are those of the record and the ledger (I3).
    pub(super) fn acked(&mut self, now: Micros, from: Member, ack: Ack, out: &mut Vec<Command>) {
        let Some(role) = self.role_of(from, ack.group) else { return };
        let old_accepted = self.config.broken == Some(Mutant::OldEpoch);
        let Some(g) = self.owned.get_mut(&ack.group) else { return };
        if g.record.epoch != ack.epoch && !old_accepted {
            return;
        }
        if role == Role::Candidate {
            g.candidate_current = true;
            g.candidate_heard_at = now;
        }
        let Some(e) = self.ledger.get_mut(ack.slice).filter(|e| e.group == ack.group) else { return };
        let generation = match e.acknowledged(ack.no, ack.chain) {
            Acknowledged::Covers(generation) => Some(generation),
            // Too many followed it to know what it covers; that a copy has arrived must be known all the same.
            Acknowledged::Nothing => None,
            Acknowledged::Diverged => {
                let detail = format!("{from} acknowledged checkpoint {} with another hash", ack.no);
                return out.push(Command::Diverged { slice: ack.slice, detail });
            }
        };
        let copy_arrived = note_ack(g, e, role, ack, generation, out);
        if generation.is_none() && !copy_arrived {
            return;
        }
        if e.closed && e.track(role).sent == 0 {
            // Its copy has a gap and the own image is gone: only a new epoch makes the receiver forget its half.
            return self.abandon_sync(ack.group, out);
        }
        if copy_arrived {
            self.pump(now, ack.group, role, out);
        }
        let frozen = self.ledger.get(ack.slice).is_some_and(|e| e.frozen);
        self.settle(ack.slice, true, out);
        if frozen {
            self.move_progress(now, ack.group, out);
        }
        if role == Role::Candidate {
            self.sync_progress(now, ack.group, out);
        }
    }

    /// A refusal: a full copy is due, or the record must be looked at (T7).
    pub(super) fn refused(&mut self, now: Micros, from: Member, refusal: &Refusal, out: &mut Vec<Command>) {
        let Some(role) = self.role_of(from, refusal.group) else { return };
        let Some(g) = self.owned.get(&refusal.group) else { return };
        let current = g.record.epoch;
        match refusal.cause {
            RefusalCause::Deposed { current: theirs } => {
                // The epoch may be that of the own change under way, or another's: only the store knows.
                if theirs > current && g.cas.is_none_or(|c| c.to.epoch != theirs) {
                    self.doubt(now, refusal.group, out);
                }
            }
            _ if refusal.epoch != current => {}
            RefusalCause::NotOwner => self.doubt(now, refusal.group, out),
            RefusalCause::Quarantined => {
                let suspect = Suspect { group: refusal.group, slice: refusal.slice };
                self.give_up(now, suspect, format!("{from} knows that it was given up"), out);
            }
            RefusalCause::NeedFull { .. } => self.lacks_base(now, role, refusal, None, out),
            RefusalCause::NoRoom if role == Role::Candidate => {
                let until = now + 10 * self.config.sync_stall_us;
                if let Some(g) = self.owned.get_mut(&refusal.group) {
                    g.avoid = Some((from, until));
                }
                self.abandon_sync(refusal.group, out);
            }
            RefusalCause::Corrupt { .. } | RefusalCause::NoRoom | RefusalCause::Unknown => {
                let later = now + self.config.full_retry_us;
                self.lacks_base(now, role, refusal, Some(later), out);
            }
        }
    }

    /// The receiver could not apply: its next checkpoint of this slice is a full copy, now or later.
    fn lacks_base(
        &mut self,
        now: Micros,
        role: Role,
        refusal: &Refusal,
        later: Option<Micros>,
        out: &mut Vec<Command>,
    ) {
        let Some(g) = self.owned.get_mut(&refusal.group) else { return };
        let Some(e) = self.ledger.get_mut(refusal.slice).filter(|e| e.group == refusal.group) else { return };
        let (closed, position, no) = (e.closed, e.position, refusal.no.0);
        let t = e.track_mut(role);
        if no <= t.acked {
            return;
        }
        match t.full {
            Some(full) if no > full => {
                t.gap = true;
                return;
            }
            // A full copy is never refused for a missing base: that was a delta before it.
            Some(full) if no < full || later.is_none() => return,
            Some(_) => {
                t.full = None;
                g.pump_mut(role).in_flight = g.pump_mut(role).in_flight.saturating_sub(1);
            }
            None => {}
        }
        t.sent = 0;
        if closed {
            // The own image is gone; only a new epoch makes the receiver forget its half.
            return self.abandon_sync(refusal.group, out);
        }
        let pump = g.pump_mut(role);
        pump.cursor = pump.cursor.min(position);
        pump.resume_at = later.or(pump.resume_at);
        self.pump(now, refusal.group, role, out);
    }

    /// Releases what is covered by now, and ends the slice if its CLOSE is. With `again`, says so even if nothing more is
    /// covered than before, provided that it is the latest checkpoint: a guest may repeat output without a change of
    /// state, and the VMM may ask about it by one more capture.
    pub(super) fn settle(&mut self, slice: SliceId, again: bool, out: &mut Vec<Command>) {
        let Some(e) = self.ledger.get_mut(slice) else { return };
        let Some(g) = self.owned.get(&e.group) else { return };
        let Some(need) = g.need() else { return };
        let standby_over = g.record.standby.is_some_and(|s| self.view.is_over(s));
        let need = break_need(need, self.config.broken, standby_over);
        let mut covered = Some(e.generation);
        if need.standby {
            covered = covered.min(e.standby.acked_generation);
        }
        if need.candidate {
            covered = covered.min(e.candidate.acked_generation);
        }
        if let Some(generation) = covered
            && !e.closed
            && (e.released < covered || (again && e.released == covered && generation == e.generation))
        {
            e.released = covered;
            out.push(Command::Release { slice, generation });
        }
        let last = e.last.0;
        let committed = (!need.standby || e.standby.acked >= last) && (!need.candidate || e.candidate.acked >= last);
        // A candidate that has an image of it must hear of the CLOSE before the record may name it.
        let lingers = g.candidate().is_some() && e.candidate.touched && e.candidate.acked < last;
        let (group, closes, closed) = (e.group, e.closing && !e.closed && committed, e.closed);
        if closes && lingers && !self.ledger.has_place(slice) {
            // The slot is full of such slices: given back now, its next one would have no place here.
            self.crowded.insert(slice);
            return;
        }
        if closes {
            if let Some(e) = self.ledger.get_mut(slice) {
                e.closed = true;
            }
            out.push(Command::Closed { group, slice });
        }
        if (closes || closed) && !lingers {
            self.remove_slice(slice);
        }
    }

    /// Looks again at slices whose slots were full.
    pub(super) fn settle_crowded(&mut self, out: &mut Vec<Command>) {
        for slice in std::mem::take(&mut self.crowded) {
            self.settle(slice, false, out);
        }
    }

    /// [`Self::settle`] for all slices of a group, after something that held all of them is gone. Again for each: what was asked
    /// meanwhile about output that repeats an old state had no answer.
    pub(super) fn settle_all(&mut self, group: GroupId, out: &mut Vec<Command>) {
        for slice in self.members(group) {
            self.settle(slice, true, out);
        }
    }

    /// Forgets a slice of the ledger.
    pub(super) fn remove_slice(&mut self, slice: SliceId) -> Option<OwnedSlice> {
        let e = self.ledger.remove(slice)?;
        let g = self.owned.get_mut(&e.group)?;
        if e.position < g.members.len() {
            g.members.swap_remove(e.position);
            if let Some(moved) = g.members.get(e.position)
                && let Some(moved) = self.ledger.get_mut(*moved)
            {
                moved.position = e.position;
            }
            // It came from behind: who has not looked at it yet must not pass it over.
            for role in [Role::Standby, Role::Candidate] {
                let pump = g.pump_mut(role);
                pump.cursor = pump.cursor.min(e.position);
            }
        }
        for role in [Role::Standby, Role::Candidate] {
            if e.track(role).full.is_some() {
                g.pump_mut(role).in_flight = g.pump_mut(role).in_flight.saturating_sub(1);
            }
        }
        if let Change::Draining(candidate, pending) = g.change
            && e.candidate.goal != 0
        {
            g.change = Change::Draining(candidate, pending.saturating_sub(1));
        }
        Some(e)
    }

    /// A group's slices (a copy: the caller changes the group meanwhile).
    pub(super) fn members(&self, group: GroupId) -> Vec<SliceId> {
        self.owned.get(&group).map(|g| g.members.clone()).unwrap_or_default()
    }

    /// What this member is to a group of ours.
    fn role_of(&self, from: Member, group: GroupId) -> Option<Role> {
        let g = self.owned.get(&group)?;
        if g.record.standby.is_some_and(|s| self.is_same(s, from)) {
            Some(Role::Standby)
        } else if g.candidate() == Some(from) {
            Some(Role::Candidate)
        } else {
            None
        }
    }
}

/// Sends the checkpoint just captured, if the receiver can take it as it is. `false`: it needs a full copy.
fn offer(g: &mut OwnedGroup, e: &mut OwnedSlice, role: Role, kind: BodyKind, out: &mut Vec<Command>) -> bool {
    let Some(to) = g.receiver(role) else { return true };
    let (last, position) = (e.last.0, e.position);
    let t = e.track_mut(role);
    if matches!(kind, BodyKind::Delta | BodyKind::Close) && t.sent + 1 != last {
        let pump = g.pump_mut(role);
        pump.cursor = pump.cursor.min(position);
        return false;
    }
    t.sent = last;
    t.touched = true;
    // What is complete in itself closes the gap behind a full copy on its way.
    t.gap &= matches!(kind, BodyKind::Delta | BodyKind::Close);
    t.close = CloseStep::Plain;
    out.push(Command::Send { to, head: e.head(g.record.epoch, kind) });
    true
}

/// Notes an acknowledgement of `ack.no`; returns whether a full copy has arrived by it.
fn note_ack(
    g: &mut OwnedGroup,
    e: &mut OwnedSlice,
    role: Role,
    ack: Ack,
    generation: Option<u64>,
    out: &mut Vec<Command>,
) -> bool {
    let (last, position, closing) = (e.last.0, e.position, e.closing);
    let repeat_close = e.head(g.record.epoch, BodyKind::Close);
    let to = g.receiver(role);
    let t = e.track_mut(role);
    let copy_arrived = t.full.is_some_and(|full| (full..=last).contains(&ack.no.0));
    if copy_arrived {
        t.full = None;
        let pump = g.pump_mut(role);
        pump.in_flight = pump.in_flight.saturating_sub(1);
        if std::mem::take(&mut t.gap) && ack.no.0 != last {
            t.sent = 0;
            pump.cursor = pump.cursor.min(position);
        }
    }
    let Some(generation) = generation else { return copy_arrived };
    if closing && ack.no.0 == last && t.close == CloseStep::FullSent {
        t.close = CloseStep::CloseSent;
        out.extend(to.map(|to| Command::Send { to, head: repeat_close }));
        return copy_arrived;
    }
    if ack.no.0 > t.acked {
        t.acked = ack.no.0;
        t.acked_generation = Some(generation);
    }
    if t.goal != 0 && t.acked >= t.goal {
        t.goal = 0;
        if let Change::Draining(candidate, pending) = g.change {
            g.change = Change::Draining(candidate, pending.saturating_sub(1));
        }
    }
    copy_arrived
}

/// The deliberate faults in the release rule.
const fn break_need(need: Need, broken: Option<Mutant>, standby_over: bool) -> Need {
    match broken {
        Some(Mutant::EarlyRelease) => Need { standby: false, candidate: false },
        Some(Mutant::OldSetAlone) => Need { candidate: false, ..need },
        Some(Mutant::SoloWithoutCas) if standby_over => Need { standby: false, ..need },
        _ => need,
    }
}
