//! T9: slices move to the node that stands by for them, in a group of their own.
//!
//! At the owner: freeze → all of it acknowledged by the standby → the store makes the group → the slices that ran here are
//! images for it. At the standby: the images are slices of a group that it owns, and go the way of every activation (T6).

use super::command::Command;
use super::engine::NodeEngine;
use super::image::Image;
use super::owned_group::{Change, OwnedGroup, Stage};
use super::owned_slice::OwnedSlice;
use super::track::Track;
use crate::{Micros, Mutant};
use escape_proto::{Epoch, GroupId, Member, Mode, MoveAnswer, MoveOutcome, MoveRecord, NodeId, SliceId, Suspect};
use std::collections::{BTreeMap, BTreeSet};

/// A move that the owner has begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Moving {
    /// The operator's number.
    request: u64,
    slices: Vec<SliceId>,
    standby: Member,
    stage: MoveStage,
    since: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum MoveStage {
    /// The guest comes to rest, and the standby acknowledges.
    Freezing,
    /// The store decides: nothing is taken back until its answer is known (R1).
    Recording { attempt: u64, begun: Micros, sent_at: Micros },
}

/// The newest group of slices that were moved: what speaks of them in an older one is late. Full: the slice that was moved
/// longest ago is forgotten; groups' epochs and the images at hand are looked at all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct MovedSlices {
    group: BTreeMap<SliceId, GroupId>,
    order: BTreeSet<(GroupId, SliceId)>,
}

impl MovedSlices {
    const MAX: usize = 4_096;

    fn learn(&mut self, slice: SliceId, group: GroupId) {
        match self.group.get(&slice) {
            Some(known) if *known >= group => return,
            Some(known) => {
                self.order.remove(&(*known, slice));
            }
            None if self.group.len() >= Self::MAX => {
                if let Some((_, oldest)) = self.order.pop_first() {
                    self.group.remove(&oldest);
                }
            }
            None => {}
        }
        self.group.insert(slice, group);
        self.order.insert((group, slice));
    }

    /// Did the slice come to this group by a move, and is it there still?
    pub fn came_to(&self, group: GroupId, slice: SliceId) -> bool {
        self.group.get(&slice) == Some(&group)
    }

    /// Has the slice left this group?
    pub fn has_left(&self, group: GroupId, slice: SliceId) -> bool {
        !self.group.is_empty() && self.group.get(&slice).is_some_and(|newest| *newest > group)
    }
}

impl NodeEngine {
    /// An operator wants slices of one group moved to their standby.
    pub(super) fn move_asked(
        &mut self,
        now: Micros,
        request: u64,
        slices: Vec<SliceId>,
        to: Option<NodeId>,
        out: &mut Vec<Command>,
    ) {
        let answer = match self.may_move(&slices, to) {
            Ok((group, standby)) => {
                let stage = MoveStage::Freezing;
                out.extend(slices.iter().map(|slice| Command::Freeze { group, slice: *slice }));
                if let Some(g) = self.owned.get_mut(&group) {
                    g.moving = Some(Moving { request, slices, standby, stage, since: now });
                }
                return;
            }
            Err(answer) => answer,
        };
        out.push(Command::AnswerMove { request, answer });
    }

    /// The slice is at rest, and its latest state is the checkpoint that was captured last.
    pub(super) fn frozen(&mut self, now: Micros, group: GroupId, slice: SliceId, out: &mut Vec<Command>) {
        let moves = self.owned.get(&group).and_then(|g| g.moving.as_ref()).is_some_and(|m| m.slices.contains(&slice));
        match self.ledger.get_mut(slice).filter(|e| e.group == group) {
            Some(e) if moves => {
                e.frozen = true;
                self.move_progress(now, group, out);
            }
            _ => out.push(Command::Thaw { slice }),
        }
    }

    /// Asks the store, once the standby has all of all slices and nothing else is going on in the group.
    pub(super) fn move_progress(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        let freezing = |m: &Moving| m.stage == MoveStage::Freezing;
        if !self.owned.get(&group).is_some_and(|g| g.moving.as_ref().is_some_and(freezing)) {
            return;
        }
        let eager = self.config.broken == Some(Mutant::MoveWithoutDrain);
        let Some(g) = self.owned.get_mut(&group) else { return };
        let epoch = g.record.epoch;
        let steady = g.need().is_some() && g.change == Change::None;
        let Some(moving) = g.moving.as_mut() else { return };
        let at_standby = |e: &OwnedSlice| e.frozen && (e.standby.acked >= e.last.0 || eager);
        if steady
            && g.record.standby == Some(moving.standby)
            && moving.slices.iter().all(|s| self.ledger.get(*s).is_some_and(at_standby))
        {
            let slices = moving.slices.clone();
            let attempt = self.number();
            if let Some(moving) = self.owned.get_mut(&group).and_then(|g| g.moving.as_mut()) {
                moving.stage = MoveStage::Recording { attempt, begun: now, sent_at: now };
            }
            out.push(Command::RequestMove { attempt, group, epoch, slices });
        }
    }

    /// The guest is gone: what was to come to rest in it will not. What the store decides, it decides.
    pub(super) fn stop_freezing(&mut self, group: GroupId, out: &mut Vec<Command>) {
        let freezing = |m: &Moving| m.stage == MoveStage::Freezing;
        if self.owned.get(&group).is_some_and(|g| g.moving.as_ref().is_some_and(freezing)) {
            self.give_up_move(group, "its guest is down".to_owned(), out);
        }
    }

    /// The store's answer. What it made is known by the record, which came before.
    pub(super) fn move_outcome(&mut self, attempt: u64, group: GroupId, outcome: MoveOutcome, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get(&group) else { return };
        let asked = |m: &Moving| matches!(m.stage, MoveStage::Recording { attempt: a, .. } if a == attempt);
        if let MoveOutcome::Refused { cause } = outcome
            && g.moving.as_ref().is_some_and(asked)
        {
            self.give_up_move(group, cause, out);
        }
    }

    /// Repeats what has had no answer; a slice that does not come to rest, or whose standby is slow, stays where it is.
    pub(super) fn repeat_move(&mut self, now: Micros, group: GroupId, out: &mut Vec<Command>) {
        let (freeze_us, resend_us) = (self.config.move_freeze_us, self.config.cas_resend_us);
        let Some(g) = self.owned.get_mut(&group) else { return };
        let epoch = g.record.epoch;
        let Some(moving) = g.moving.as_mut() else { return };
        match &mut moving.stage {
            MoveStage::Freezing if now.saturating_sub(moving.since) >= freeze_us => {
                self.give_up_move(group, "it did not come to rest, or its standby was slow".to_owned(), out);
            }
            MoveStage::Freezing => self.move_progress(now, group, out),
            MoveStage::Recording { attempt, sent_at, .. } if now.saturating_sub(*sent_at) >= resend_us => {
                *sent_at = now;
                let (attempt, slices) = (*attempt, moving.slices.clone());
                out.push(Command::RequestMove { attempt, group, epoch, slices });
            }
            MoveStage::Recording { .. } => {}
        }
    }

    /// Moves that the store knows: slices of the former group are slices of the new one, whatever they are here.
    pub(super) fn move_records(&mut self, now: Micros, moves: &[MoveRecord], out: &mut Vec<Command>) {
        for record in moves {
            self.put_in_order(record, out);
            self.answer_move(now, record, out);
            if record.waits_for.iter().any(|m| m.node == self.config.me) {
                out.push(Command::ReportMoved { to: record.to });
            }
        }
    }

    /// The same, before anything else is known of this life.
    pub(super) fn put_in_order(&mut self, record: &MoveRecord, out: &mut Vec<Command>) {
        if self.config.broken == Some(Mutant::MovesIgnored) {
            return;
        }
        for slice in record.slices.iter().copied() {
            self.moved.learn(slice, record.to);
            self.quarantine.note_moved(Suspect { group: record.from, slice });
            if self.ledger.get(slice).is_some_and(|e| e.group == record.from) {
                self.hand_over(slice, record.to, out);
            } else if let Some(image) = self.images.get_mut(slice).filter(|i| i.group == record.from && !i.closed) {
                image.group = record.to;
                out.push(Command::Regroup { slice, to: record.to });
            }
        }
    }

    /// A slice that ran here is an image from now on: this node stands by for it.
    fn hand_over(&mut self, slice: SliceId, to: GroupId, out: &mut Vec<Command>) {
        let Some(e) = self.remove_slice(slice) else { return };
        let image = Image { group: to, epoch: Epoch(0), ..Image::of(&e.head(Epoch(0), escape_proto::BodyKind::Full)) };
        out.push(Command::HandOver { slice, to });
        if self.images.insert(slice, image).is_err() {
            out.push(Command::FreeImage { slice });
        }
    }

    fn answer_move(&mut self, now: Micros, record: &MoveRecord, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get_mut(&record.from) else { return };
        let asked = |m: &mut Moving| {
            matches!(m.stage, MoveStage::Recording { attempt, .. } if attempt == record.attempt)
                && m.slices == record.slices
        };
        let Some(moving) = g.moving.take_if(asked) else { return };
        if let Some((slice, from)) = moving.slices.first().copied().zip(self.me) {
            let begun = if let MoveStage::Recording { begun, .. } = moving.stage { begun } else { now };
            let (frozen_us, recorded_us) = (now.saturating_sub(moving.since), now.saturating_sub(begun));
            let (to, group) = (moving.standby, record.to);
            let answer = MoveAnswer::Moved { slice, from, to, group, frozen_us, recorded_us };
            out.push(Command::AnswerMove { request: moving.request, answer });
        }
    }

    /// The slice came to this group by a move: its former owner, who stands by for it, has the very image that its new owner has. So
    /// no copy is sent, and the first checkpoint is a delta.
    pub(super) fn standby_has_it(&mut self, group: GroupId, slice: SliceId) {
        if self.moved.came_to(group, slice)
            && let Some(e) = self.ledger.get_mut(slice)
        {
            let (last, generation) = (e.last.0, Some(e.generation));
            e.standby =
                Track { sent: last, touched: true, acked: last, acked_generation: generation, ..Track::default() };
        }
    }

    /// The slices go on where they are.
    pub(super) fn give_up_move(&mut self, group: GroupId, cause: String, out: &mut Vec<Command>) {
        let Some(moving) = self.owned.get_mut(&group).and_then(|g| g.moving.take()) else { return };
        for slice in moving.slices {
            if let Some(e) = self.ledger.get_mut(slice).filter(|e| e.group == group) {
                e.frozen = false;
                out.push(Command::Thaw { slice });
            }
        }
        let answer = MoveAnswer::Refused { cause, again: true };
        out.push(Command::AnswerMove { request: moving.request, answer });
    }

    /// Which group the slices are of, and who stands by for it; or why they stay.
    fn may_move(&self, slices: &[SliceId], to: Option<NodeId>) -> Result<(GroupId, Member), MoveAnswer> {
        let refuse = |again, cause: String| Err(MoveAnswer::Refused { cause, again });
        let Some(group) = slices.first().and_then(|s| self.ledger.get(*s)).map(|e| e.group) else {
            return Err(MoveAnswer::NotHere);
        };
        let known = |s: &SliceId| self.ledger.get(*s).is_some_and(|e| e.group == group);
        let Some(g) = self.owned.get(&group).filter(|_| slices.iter().all(known)) else {
            return refuse(false, "a move takes slices of one group".to_owned());
        };
        let Some(standby) = g.record.standby.filter(|_| g.record.mode == Mode::Paired) else {
            return refuse(
                true,
                format!("group {group} rests on one copy: a slice moves to the node that stands by for it"),
            );
        };
        if let Some(to) = to.filter(|to| *to != standby.node) {
            let cause = format!("a slice moves to the node that stands by for it: that is {}, not {to}", standby.node);
            return refuse(false, cause);
        }
        if slices.iter().filter_map(|s| self.ledger.get(*s)).any(|e| e.closing || e.closed || e.plugging) {
            return refuse(true, "it ends, or is not plugged yet".to_owned());
        }
        match is_steady(g) {
            true => Ok((group, standby)),
            false => refuse(true, format!("group {group} is changing")),
        }
    }
}

/// Nothing else goes on in the group, and nobody but owner and standby can have images of its present epoch: so nobody else has to
/// hear of the move.
fn is_steady(g: &OwnedGroup) -> bool {
    g.stage == Stage::Running
        && g.need().is_some()
        && g.standby_linked
        && g.moving.is_none()
        && g.cas.is_none()
        && g.change == Change::None
        && g.tainted.is_empty()
}
