//! The judge: it sees everything at once (PROTOCOL.md, I1–I9).

use super::process::NODES;
use super::session::Session;
use super::step::Step;
use crate::promises::{GATE, I1, I2, I5, I9, LEASES, MIRROR};
use escape_engine::edge::GroupSteering;
use escape_engine::node::PlugSlice;
use escape_engine::store::{Changes, Record, StoreState};
use escape_proto::{GroupId, GroupRecord, LeaseRecord, LeaseState, Member, Mode, SliceId};

impl Step<'_> {
    /// A transaction is in the store (I2, I4).
    pub fn judge_store(&mut self, before: &StoreState, changes: &Changes) {
        for record in &changes.put {
            if let Record::Lease(lease) = record {
                self.judge_freed(*lease);
            }
            let Record::Group(new) = record else { continue };
            let old = before.group(new.group).copied();
            let top = self.world.truth.edit().top.entry(new.group).or_insert(0);
            let known = std::mem::replace(top, new.epoch.0.max(*top));
            if new.epoch.0 <= known {
                self.world.violate(I2, || format!("epoch {} comes again: {new:?}", new.epoch));
            }
            if (new.mode == Mode::Paired) != new.standby.is_some()
                || new.standby.is_some_and(|s| s.node == new.owner.node)
            {
                self.world.violate(I2, || format!("no such pair: {new:?}"));
            }
            if new.mode == Mode::Lost {
                self.judge_loss(old, *new);
            }
        }
    }

    fn judge_loss(&mut self, old: Option<GroupRecord>, new: GroupRecord) {
        let store = &self.world.control.store;
        let up = |m: Member| store.node(m.node).is_some_and(|n| n.is_up(m));
        let heir = |o: &GroupRecord| o.standby.is_some_and(|s| o.owner == new.owner && up(s));
        let lives = old.is_some_and(|o| up(new.owner) || heir(&o));
        let brings = |m: &Member| {
            let process = self.world.nodes[usize::from(m.node.0)].process.as_ref();
            let latest = store.node(m.node).is_some_and(|n| n.member == *m);
            latest && process.is_some_and(|p| p.engine.me().or(p.former) == Some(*m))
        };
        let named = [Some(new.owner), old.and_then(|o| o.standby)].into_iter().flatten();
        let in_time = self.world.left.hopes == self.bounds.budget.hopes;
        let member = named.filter(|_| in_time).find(brings);
        if lives {
            self.world.violate(I5, || format!("lost, although a copy lives: {old:?}"));
        }
        if let Some(member) = member {
            self.world.violate(I5, || format!("lost, although {member} remembers it: {old:?}"));
        }
        let stories = self.world.truth.edit().stories.values_mut();
        stories.filter(|s| s.group == new.group).for_each(|s| s.lost = true);
    }

    /// A lease is Free only if no node of the cell has a live slice in it (T10).
    fn judge_freed(&mut self, lease: LeaseRecord) {
        let slots = lease.lease.0 * 64..lease.lease.0 * 64 + 64;
        let live = self.live_slices().into_iter().find(|(_, s)| slots.contains(&s.slot));
        if let Some((n, slice)) = live.filter(|_| lease.state == LeaseState::Free) {
            self.world
                .violate(LEASES, || format!("lease {} is free, although node {n} has slice {slice}", lease.lease));
        }
    }

    /// A slot has one live slice: two could not be plugged into one guest.
    pub fn judge_slot(&mut self, n: usize, slice: SliceId) {
        let other = self.live_slices().into_iter().find(|(_, s)| s.slot == slice.slot && *s != slice);
        if let Some((at, other)) = other {
            self.world.violate(LEASES, || format!("node {n} begins slice {slice}, node {at} has slice {other}"));
        }
    }

    /// Slices that clients know, and a node of the cell that has a copy.
    fn live_slices(&self) -> Vec<(usize, SliceId)> {
        let up = |m: Member| self.world.control.store.node(m.node).is_some_and(|r| r.is_up(m));
        let nodes = self.world.nodes.iter().enumerate();
        let nodes = nodes
            .filter_map(|(n, place)| Some((n, place.process.as_ref().filter(|_| place.member().is_some_and(up))?)));
        let copies = nodes.flat_map(|(n, p)| p.vmm.own.keys().chain(p.vmm.standby.keys()).map(move |s| (n, *s)));
        copies.filter(|(_, slice)| self.world.truth.stories.get(slice).is_some_and(|s| s.is_open())).collect()
    }

    /// What a life of a node knows of a slice, be it over or not.
    fn knowledge(&self, member: Member, slice: SliceId) -> Option<u8> {
        let place = self.world.nodes.get(usize::from(member.node.0))?;
        match &place.process {
            Some(p) if p.engine.me() == Some(member) => p.vmm.knows(slice),
            // It has claimed the group with its memory; the answer is on its way.
            Some(p) if p.engine.me().is_none() && p.former.is_some_and(|f| f.inc < member.inc) => p.vmm.knows(slice),
            _ => {
                let grave = self.world.truth.graves.get(&member)?;
                grave.iter().find(|(s, _)| *s == slice).and_then(|(_, known)| *known)
            }
        }
    }

    /// Is the node the owner that the store names, and does it know the newest record?
    fn is_true_owner(&self, n: usize, group: GroupId) -> bool {
        let record = self.world.control.store.group(group);
        let known = self.world.nodes[n].process.as_ref().and_then(|p| p.engine.record(group));
        record.is_some_and(|r| Some(r.owner) == self.world.nodes[n].member() && r.mode != Mode::Lost) && record == known
    }

    /// A frame leaves the valve: no other output of that request ever left (I2), and the other holder of the group that
    /// the record names has the state behind it (I1).
    pub fn judge_release(&mut self, n: usize, slice: SliceId, frame: Session) {
        let truth = self.world.truth.edit();
        let Some(story) = truth.stories.get_mut(&slice) else { return };
        let (group, at) = (story.group, usize::from(frame.count));
        if story.released.len() <= at {
            story.released.resize(at + 1, None);
        }
        let first = *story.released[at].get_or_insert(frame.digest);
        if first != frame.digest {
            let count = frame.count;
            self.world.violate(I2, || format!("node {n}, slice {slice}: reply {count} left with two contents"));
        }
        let Some(record) = self.world.control.store.group(group).copied() else { return };
        let keeper = if Some(record.owner) == self.world.nodes[n].member() {
            record.standby
        } else {
            (record.mode != Mode::Lost).then_some(record.owner)
        };
        let Some(keeper) = keeper else { return };
        let known = self.knowledge(keeper, slice);
        if known.is_none_or(|known| known < frame.count) {
            self.world.violate(I1, || {
                format!("node {n}, slice {slice}: reply {} left, {keeper} has {known:?}: {record:?}", frame.count)
            });
        }
    }

    /// A client asks for more than the slice has done: what it was told is lost.
    pub fn judge_gap(&mut self, n: usize, slice: SliceId, has: u8) {
        let group = self.world.truth.stories.get(&slice).map(|s| s.group);
        if group.is_some_and(|g| self.is_true_owner(n, g)) {
            self.world.violate(I1, || format!("node {n}, slice {slice}: is at {has}, its client is further"));
        }
    }

    /// An owner activates: closed slices stay closed (I9), and released output is in the images (I1).
    pub fn judge_activation(&mut self, n: usize, group: GroupId, slices: &[PlugSlice]) {
        if !self.is_true_owner(n, group) {
            return;
        }
        if !slices.is_empty() {
            let truth = self.world.truth.edit();
            truth.activations = (truth.activations + 1).min(3);
        }
        for plug in slices {
            let slice = plug.slice;
            let Some(story) = self.world.truth.stories.get(&slice) else { continue };
            let image = self.world.nodes[n].process.as_ref().and_then(|p| p.vmm.own.get(&slice)).map(|i| i.state);
            if story.closed {
                self.world.violate(I9, || format!("node {n} activates slice {slice}, which is closed"));
            } else if let (Some(image), Some(newest)) = (image, story.newest())
                && (image.count < newest
                    || story
                        .released
                        .get(usize::from(image.count))
                        .copied()
                        .flatten()
                        .is_some_and(|d| d != image.digest))
            {
                self.world.violate(I1, || {
                    format!("node {n} activates slice {slice} at {image:?}; request {newest} is answered")
                });
            }
        }
    }

    /// A group is open at its owner: every session that a client knows must be there (I5).
    pub fn judge_opening(&mut self, n: usize, group: GroupId) {
        if !self.is_true_owner(n, group) {
            return;
        }
        let Some(p) = self.world.nodes[n].process.as_ref() else { return };
        let (mut ended, mut missing) = (Vec::new(), None);
        for (slice, _) in self.world.truth.stories.iter().filter(|(_, s)| s.group == group && s.is_open()) {
            if p.vmm.tombs.contains(slice) {
                // Its CLOSE was applied here; the acknowledgement was lost with the old owner.
                ended.push(*slice);
            } else if !p.vmm.own.contains_key(slice) {
                missing = Some(*slice);
            }
        }
        for slice in ended {
            if let Some(story) = self.world.truth.edit().stories.get_mut(&slice) {
                story.closed = true;
            }
        }
        if let Some(slice) = missing {
            self.world.violate(I5, || format!("node {n} opens group {group} without slice {slice}, which is lost"));
        }
    }

    /// The fabric turns to an owner: its gate must be closed, else one packet draws an RST (T8, finding 9).
    pub fn judge_steering(&mut self, steering: GroupSteering) {
        let GroupSteering { group, epoch, owner, mirror } = steering;
        let record = self.world.control.store.group(group);
        if record.is_some_and(|r| r.epoch == epoch && r.standby != mirror) {
            self.world.violate(MIRROR, || format!("group {group} is not mirrored to its standby: {steering:?}"));
        }
        let n = usize::from(owner.node.0);
        let Some(p) = self.world.nodes[n].process.as_ref().filter(|p| p.engine.me() == Some(owner)) else { return };
        if self.world.edge.steering(group).is_some_and(|s| s.owner == owner) {
            return;
        }
        let current = p.engine.record(group).is_none_or(|r| r.epoch <= epoch);
        if current && !p.engine.gated_groups().any(|(g, _)| g == group) {
            self.world.violate(GATE, || format!("group {group} flips to node {n} before its gate is closed"));
        }
    }

    /// A packet reaches a node: either its gate keeps it, or the guest has the slice.
    pub fn judge_packet(&mut self, n: usize, group: GroupId, slice: Option<SliceId>) {
        if !self.is_true_owner(n, group) {
            return;
        }
        let Some(p) = self.world.nodes[n].process.as_ref() else { return };
        let Some(gate) = p.vmm.gates.get(&group) else {
            return self
                .world
                .violate(GATE, || format!("a packet of group {group} reaches node {n}, which has no gate"));
        };
        let Some(slice) = slice.filter(|s| gate.all_open || gate.open.contains(s)) else { return };
        if !p.vmm.guest.contains_key(&slice) && !p.vmm.tombs.contains(&slice) {
            self.world.violate(GATE, || format!("a packet of slice {slice} reaches node {n}'s guest, which lacks it"));
        }
    }

    /// What must be true in every state: whoever the record names and lives has all that was released (I1, I5), and
    /// there is one owner per epoch (I2).
    pub fn judge_state(&mut self) {
        let mut found = None;
        for record in self.world.control.store.groups().filter(|r| r.mode != Mode::Lost) {
            let living = |m: &Member| self.world.nodes[usize::from(m.node.0)].member() == Some(*m);
            for keeper in [Some(record.owner), record.standby].into_iter().flatten().filter(living) {
                let stories = self.world.truth.stories.iter().filter(|(_, s)| s.group == record.group && s.is_open());
                for (slice, story) in stories {
                    if self.knowledge(keeper, *slice) < story.newest() {
                        found = Some((I5, format!("{keeper} lacks output of slice {slice}: {record:?}")));
                    }
                }
            }
            found = found.or_else(|| self.two_owners(record.group).map(|detail| (I2, detail)));
        }
        if let Some((promise, detail)) = found {
            self.world.violate(promise, || detail);
        }
    }

    fn two_owners(&self, group: GroupId) -> Option<String> {
        let mut owners = (0..NODES).filter_map(|n| {
            let p = self.world.nodes[n].process.as_ref().filter(|p| p.engine.owns(group))?;
            p.engine.record(group).map(|r| (n, r.epoch))
        });
        let (a, epoch) = owners.next()?;
        owners.find(|(_, e)| *e == epoch).map(|(b, _)| format!("nodes {a} and {b} own group {group} at epoch {epoch}"))
    }
}
