//! T6: a node sees itself owner. Freeze, gate, flip and plug, open; and T11's other half, the restart of a guest.

use super::command::{Command, PlugSlice};
use super::engine::NodeEngine;
use super::image::Image;
use super::owned_group::{OwnedGroup, Stage};
use super::owned_slice::OwnedSlice;
use crate::{Micros, Mutant};
use escape_proto::{Epoch, GroupId, GroupRecord, SliceId, Suspect};

impl NodeEngine {
    /// The record names this node as owner. From here on nothing of an older epoch is acknowledged.
    pub(super) fn claim(&mut self, now: Micros, record: GroupRecord, out: &mut Vec<Command>) {
        let group = record.group;
        let standby_linked = record.standby.is_some_and(|s| self.is_linked(s));
        let standby_lost_at = (record.standby.is_some() && !standby_linked).then_some(now);
        self.owned.insert(group, OwnedGroup { standby_linked, standby_lost_at, ..OwnedGroup::new(record) });
        for (slice, image) in self.images_of(group) {
            self.images.remove(slice);
            if image.closed {
                continue;
            }
            if self.is_given_up(group, slice) || !self.take_into_ledger(slice, &image) {
                out.push(Command::FreeImage { slice });
            } else if record.standby.is_some() {
                self.standby_has_it(group, slice);
            }
        }
        if self.applying.get(&group).is_none_or(|n| *n == 0) {
            self.start_activation(group, out);
        }
    }

    /// Makes an image a slice of the ledger, or brings that slice up to the image.
    pub(super) fn take_into_ledger(&mut self, slice: SliceId, image: &Image) -> bool {
        let Some(g) = self.owned.get_mut(&image.group) else { return false };
        if self.ledger.get(slice).is_none() {
            let entry = OwnedSlice::new(slice, image.group, image.flow, g.members.len());
            if self.ledger.insert(slice, entry).is_err() {
                return false;
            }
            g.members.push(slice);
        }
        if let Some(e) = self.ledger.get_mut(slice) {
            e.advance(image.no, image.generation, image.rcv_covered, image.chain);
            e.closing |= image.closing;
        }
        true
    }

    /// First step: images frozen, gate closed.
    pub(super) fn start_activation(&mut self, group: GroupId, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get_mut(&group) else { return };
        g.stage = Stage::Closing;
        g.active_from = g.record.epoch;
        g.flipped = false;
        g.flip_asked_at = None;
        let epoch = g.record.epoch;
        if self.config.broken == Some(Mutant::FlipBeforeGate) {
            out.push(Command::RequestFlip { group, epoch });
        }
        let slices = self.to_plug(group);
        out.push(Command::Activate { group, epoch, slices });
    }

    /// The gate is closed: flip and plug go on side by side.
    pub(super) fn gate_closed(&mut self, now: Micros, group: GroupId, epoch: Epoch, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get_mut(&group) else { return };
        if g.stage != Stage::Closing || epoch < g.active_from {
            return;
        }
        g.stage = Stage::AwaitGuest;
        g.flip_asked_at = Some(now);
        if g.active_from > Epoch(1) {
            self.calm_until = now + self.config.calm_us;
        }
        out.push(Command::RequestFlip { group, epoch: g.record.epoch });
        if self.guest_up {
            self.start_plugging(group, out);
        }
    }

    /// The edge steers the group here: what is covered may leave.
    pub(super) fn flipped(&mut self, group: GroupId, epoch: Epoch, out: &mut Vec<Command>) {
        let Some(g) = self.owned.get_mut(&group) else { return };
        if epoch < g.active_from || epoch > g.record.epoch || !g.is_gated() {
            return;
        }
        g.flipped = true;
        self.settle_all(group, out);
    }

    pub(super) fn start_plugging(&mut self, group: GroupId, out: &mut Vec<Command>) {
        let mut slices = self.to_plug(group);
        let undecided = slices.len();
        for plug in &slices {
            if let Some(e) = self.ledger.get_mut(plug.slice) {
                e.plugging = true;
            }
        }
        self.put_suspects_off(group, &mut slices);
        let Some(g) = self.owned.get_mut(&group) else { return };
        g.stage = Stage::Plugging(undecided);
        if !slices.is_empty() {
            out.push(Command::Plug { group, slices });
        }
        self.open_when_decided(group, out);
    }

    /// A slice runs, or the guest refused it: then it is given up, alone.
    pub(super) fn plugged(&mut self, group: GroupId, slice: SliceId, ok: bool, out: &mut Vec<Command>) {
        if !self.plug_decided(group, slice) {
            return;
        }
        if ok {
            out.push(Command::OpenGate { group, slice });
        } else {
            self.remove_slice(slice);
            out.push(Command::DropGroup { group, slices: vec![slice] });
        }
        self.open_when_decided(group, out);
    }

    /// A slice of an owned group is gone, and nothing waits for it any more.
    pub(super) fn lose_slice(&mut self, now: Micros, suspect: Suspect, out: &mut Vec<Command>) {
        let Suspect { group, slice } = suspect;
        self.plug_decided(group, slice);
        self.remove_slice(slice);
        self.open_when_decided(group, out);
        self.sync_progress(now, group, out);
    }

    /// T11: the guest is gone, the VMM goes on. What ran in it goes on elsewhere or from the own images.
    pub(super) fn guest_down(&mut self, now: Micros, suspects: &[SliceId], out: &mut Vec<Command>) {
        self.guest_up = false;
        self.suspect(suspects);
        let groups: Vec<GroupId> = self.owned.keys().copied().collect();
        for group in groups {
            let Some(g) = self.owned.get_mut(&group) else { continue };
            if matches!(g.stage, Stage::Running | Stage::Plugging(_)) {
                g.restart = true;
                self.stop_freezing(group, out);
                self.abandon_sync(group, out);
            }
        }
        self.guest_reported_at = None;
        self.report_guest(now, out);
    }

    /// The guest can take slices.
    pub(super) fn guest_ready(&mut self, out: &mut Vec<Command>) {
        self.guest_up = true;
        let ready: Vec<GroupId> =
            self.owned.iter().filter(|(_, g)| g.stage == Stage::AwaitGuest && !g.restart).map(|(id, _)| *id).collect();
        for group in ready {
            self.start_plugging(group, out);
        }
    }

    /// Slices of a group that the guest is to take: all but those whose end is in the image already.
    fn to_plug(&self, group: GroupId) -> Vec<PlugSlice> {
        let members = self.owned.get(&group).map_or(&[][..], |g| g.members.as_slice());
        let entries = members.iter().filter_map(|s| self.ledger.get(*s)).filter(|e| !e.closing);
        entries.map(|e| PlugSlice { slice: e.slice, flow: e.flow, no: e.last }).collect()
    }

    /// One slice fewer that is not decided. `false`: it was not waited for.
    fn plug_decided(&mut self, group: GroupId, slice: SliceId) -> bool {
        let Some(g) = self.owned.get_mut(&group) else { return false };
        let Stage::Plugging(left) = g.stage else { return false };
        let Some(e) = self.ledger.get_mut(slice).filter(|e| e.group == group && e.plugging) else { return false };
        if g.restart {
            return false;
        }
        e.plugging = false;
        g.stage = Stage::Plugging(left.saturating_sub(1));
        true
    }

    fn open_when_decided(&mut self, group: GroupId, out: &mut Vec<Command>) {
        if let Some(g) = self.owned.get_mut(&group)
            && g.stage == Stage::Plugging(0)
        {
            g.stage = Stage::Running;
            out.push(Command::OpenGroup { group });
        }
    }
}
