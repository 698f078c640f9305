//! Records and what follows from them: owner, deposed (T7), a new epoch (R5), links.

use super::command::Command;
use super::engine::NodeEngine;
use super::owned_group::{Change, OwnedGroup, Pump};
use super::owned_slice::Role;
use super::track::Track;
use crate::Micros;
use escape_proto::{GroupId, GroupRecord, Member, Mode, NodeRecord};

impl NodeEngine {
    /// Records were pushed.
    pub(super) fn records(
        &mut self,
        now: Micros,
        nodes: Vec<NodeRecord>,
        groups: Vec<GroupRecord>,
        out: &mut Vec<Command>,
    ) {
        for node in nodes {
            self.view.see_node(node);
        }
        if self.me.is_some_and(|me| self.view.is_over(me)) {
            self.step_out(out);
            return out.push(Command::Rejoin);
        }
        for group in groups {
            self.adopt(now, group, out);
        }
        self.claim_what_is_due(now, out);
    }

    /// Takes a group's record if it is newer than all seen (R7), and acts on it.
    pub(super) fn adopt(&mut self, now: Micros, record: GroupRecord, out: &mut Vec<Command>) {
        let Some(me) = self.me else { return };
        if !self.view.see_group(record) {
            return;
        }
        let mine = record.owner == me && record.mode != Mode::Lost;
        match (self.owned.contains_key(&record.group), mine) {
            (true, true) => self.raise_epoch(now, record, out),
            (true, false) => self.depose(record.group, out),
            (false, true) => self.claim_what_is_due(now, out),
            (false, false) if record.standby == Some(me) => {}
            (false, false) => self.free_images(record.group, out),
        }
        self.admit_waiting(record.group, out);
    }

    /// R8: groups whose record names this node as owner are activated once the own record says Up.
    fn claim_what_is_due(&mut self, now: Micros, out: &mut Vec<Command>) {
        let Some(me) = self.me.filter(|me| self.view.is_up(*me)) else { return };
        let due: Vec<GroupRecord> = self
            .view
            .groups()
            .filter(|r| r.owner == me && r.mode != Mode::Lost && !self.owned.contains_key(&r.group))
            .copied()
            .collect();
        for record in due {
            self.claim(now, record, out);
        }
    }

    /// T7: drops a group in silence.
    fn depose(&mut self, group: GroupId, out: &mut Vec<Command>) {
        self.give_up_move(group, "its node was deposed".to_owned(), out);
        let slices = self.members(group);
        for slice in &slices {
            self.ledger.remove(*slice);
        }
        self.owned.remove(&group);
        out.push(Command::DropGroup { group, slices });
        self.free_images(group, out);
    }

    /// The record of an owned group has a new epoch and this node is still the owner: by its own change, in general.
    fn raise_epoch(&mut self, now: Micros, record: GroupRecord, out: &mut Vec<Command>) {
        let group = record.group;
        let linked = record.standby.is_some_and(|s| self.is_linked(s));
        let guest_up = self.guest_up;
        let Some(g) = self.owned.get_mut(&group) else { return };
        let by_own_change = g.cas.is_some_and(|c| c.to == record);
        let was_standby = record.standby.is_some() && g.record.standby == record.standby;
        let was_candidate = record.standby.is_some() && g.candidate() == record.standby;
        let asked = g.question.is_some();
        let resume_from_image = g.restart && guest_up && by_own_change && record.mode == Mode::Solo;
        start_epoch(now, g, record, linked);
        for slice in self.members(group) {
            let Some(e) = self.ledger.get_mut(slice) else { continue };
            // R5: all acknowledgements but the recorded standby's are forgotten.
            let kept = if was_candidate { e.candidate } else { e.standby };
            e.standby = if was_candidate || was_standby { Track { goal: 0, ..kept } } else { Track::default() };
            e.candidate = Track::default();
            e.standby.forget_unacked(e.last);
            if e.closed {
                self.remove_slice(slice);
            }
        }
        if asked {
            self.ask(now, group, false, out);
        }
        if resume_from_image {
            self.restart_from_images(group, out);
        } else if self.owned.get(&group).is_some_and(OwnedGroup::is_gated) {
            // The gate of an older epoch is no word for this one, and an edge that has just started knows neither.
            out.push(Command::RequestFlip { group, epoch: record.epoch });
        }
        self.pump(now, group, Role::Standby, out);
        self.settle_all(group, out);
        if record.mode == Mode::Paired {
            let slices = self.owned.get(&group).map_or(0, |g| g.members.len());
            let slices = u32::try_from(slices).unwrap_or(u32::MAX);
            out.push(Command::Protected { group, epoch: record.epoch, slices });
        }
    }

    /// T11, Solo: the new epoch is there, the guest too.
    fn restart_from_images(&mut self, group: GroupId, out: &mut Vec<Command>) {
        if let Some(g) = self.owned.get_mut(&group) {
            g.restart = false;
        }
        for slice in self.members(group) {
            if let Some(e) = self.ledger.get_mut(slice) {
                e.released = None;
            }
        }
        self.start_activation(group, out);
    }

    /// A link is up.
    pub(super) fn peer_up(&mut self, now: Micros, member: Member, out: &mut Vec<Command>) {
        if let Some(&inc) = self.links.get(&member.node)
            && inc != member.inc
        {
            self.peer_down(now, Member { node: member.node, inc }, out);
        }
        self.links.insert(member.node, member.inc);
        let groups: Vec<GroupId> = self.owned.keys().copied().collect();
        for group in groups {
            let is_standby = self.owned.get(&group).and_then(|g| g.record.standby);
            let is_standby = is_standby.is_some_and(|s| self.is_same(s, member));
            let Some(g) = self.owned.get_mut(&group) else { continue };
            if is_standby {
                g.standby_linked = true;
                g.standby_lost_at = None;
                g.standby_pump = Pump::default();
                self.pump(now, group, Role::Standby, out);
                self.ask_standby_instead(now, group, out);
            } else if g.candidate() == Some(member) {
                g.candidate_linked = true;
                g.candidate_pump = Pump::default();
                self.pump(now, group, Role::Candidate, out);
            }
        }
    }

    /// A link is gone: what was not acknowledged counts as not delivered.
    pub(super) fn peer_down(&mut self, now: Micros, member: Member, out: &mut Vec<Command>) {
        if self.links.get(&member.node) == Some(&member.inc) {
            self.links.remove(&member.node);
        }
        self.waiting.turn_out(member, |body| out.push(Command::DropBody { body }));
        let groups: Vec<GroupId> = self.owned.keys().copied().collect();
        for group in groups {
            let Some(g) = self.owned.get_mut(&group) else { continue };
            if g.record.standby == Some(member) {
                g.standby_linked = false;
                g.standby_lost_at = Some(now);
                g.standby_pump = Pump::default();
                self.forget_unacked(group, Role::Standby);
            } else if g.candidate() == Some(member) {
                if matches!(g.change, Change::Recording(_)) {
                    // R1: DUAL goes on until the outcome is known.
                    g.candidate_linked = false;
                    g.candidate_pump = Pump::default();
                    self.forget_unacked(group, Role::Candidate);
                } else {
                    self.abandon_sync(group, out);
                }
            }
        }
    }

    /// What was sent to this receiver and not acknowledged counts as not delivered.
    pub(super) fn forget_unacked(&mut self, group: GroupId, role: Role) {
        for slice in self.members(group) {
            if let Some(e) = self.ledger.get_mut(slice) {
                let last = e.last;
                e.track_mut(role).forget_unacked(last);
            }
        }
    }
}

fn start_epoch(now: Micros, g: &mut OwnedGroup, record: GroupRecord, linked: bool) {
    g.record = record;
    g.cas = None;
    g.change = Change::None;
    g.question = None;
    g.tainted.clear();
    g.standby_linked = linked;
    g.standby_lost_at = (record.standby.is_some() && !linked).then_some(now);
    g.standby_pump = Pump::default();
    g.forget_candidate();
}
