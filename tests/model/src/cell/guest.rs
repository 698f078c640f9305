//! Clients' packets, the guest's work, captures and releases.

use super::process::Local;
use super::session::{Session, flow_of};
use super::step::Step;
use super::truth::Story;
use super::vmm::{Image, Running};
use crate::promises::{ENGINE, I9};
use escape_engine::node::Event;
use escape_proto::{BodyKind, ChainHash, CheckpointNo, GroupId, SliceId};

impl Step<'_> {
    /// The node that gets a packet of this group, if it is there and lets it through to its guest.
    fn passes(&mut self, group: GroupId, slice: Option<SliceId>) -> Option<usize> {
        let steering = self.world.edge.steering(group)?;
        let n = usize::from(steering.owner.node.0);
        if self.world.nodes[n].member() != Some(steering.owner) {
            return None;
        }
        self.judge_packet(n, group, slice);
        let gate = self.world.nodes[n].process.as_ref()?.vmm.gates.get(&group)?;
        (gate.all_open || slice.is_some_and(|s| gate.open.contains(&s))).then_some(n)
    }

    /// A new connection: a slot, a socket, and a SYN-ACK that waits for the CREATE.
    pub fn open_session(&mut self, group: GroupId) {
        let Some(n) = self.passes(group, None) else { return };
        let slots = self.bounds.slots;
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        if !p.guest_up || !p.engine.owns(group) {
            return;
        }
        let Some(slice) = p.take_slot(slots) else { return };
        p.vmm.guest.insert(slice, Running { group, state: Session::open(p.salt(n)), frozen: false });
        self.world.left.opens[group.0 as usize] -= 1;
        let story = Story { group, released: Vec::new(), seen: None, closed: false, lost: false };
        if self.world.truth.edit().stories.insert(slice, story).is_some() {
            self.world.violate(I9, || format!("node {n} makes slice {slice} a second time"));
        }
        self.judge_slot(n, slice);
        self.hold(n, slice);
    }

    /// The client's next request.
    pub fn ask(&mut self, slice: SliceId, close: bool) {
        let Some(story) = self.world.truth.stories.get(&slice) else { return };
        let (group, seen) = (story.group, story.seen.unwrap_or(0));
        let Some(n) = self.passes(group, Some(slice)) else { return };
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        let salt = p.salt(n);
        let Some(running) = p.vmm.guest.get_mut(&slice).filter(|r| !r.frozen) else { return };
        if running.state.count < seen {
            let has = running.state.count;
            return self.judge_gap(n, slice, has);
        }
        running.state = running.state.serve(salt, close);
        self.hold(n, slice);
    }

    /// The client has not got the last reply and asks again.
    pub fn repeat(&mut self, slice: SliceId) {
        let Some(group) = self.world.truth.stories.get(&slice).map(|s| s.group) else { return };
        if let Some(n) = self.passes(group, Some(slice))
            && self.world.nodes[n].process.as_ref().is_some_and(|p| p.vmm.guest.contains_key(&slice))
        {
            self.hold(n, slice);
        }
    }

    /// Queues the slice's present reply in the valve, and captures the slice.
    pub fn hold(&mut self, n: usize, slice: SliceId) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        let Some(running) = p.vmm.guest.get(&slice).copied().filter(|r| !r.frozen) else { return };
        let held = p.vmm.valve.entry(slice).or_default();
        if held.last() != Some(&running.state) {
            held.push(running.state);
        }
        let Running { group, state, .. } = running;
        let fresh = Image { group, no: CheckpointNo(0), chain: ChainHash::START, state, ended: false };
        let image = p.vmm.own.entry(slice).or_insert(fresh);
        if image.ended {
            return;
        }
        let kind = match image.no.0 {
            0 => BodyKind::Create,
            _ if state.closed => BodyKind::Close,
            _ => BodyKind::Delta,
        };
        let (no, chain) = (image.no.next(), state.chain(image.chain));
        *image = Image { group, no, chain, state, ended: kind == BodyKind::Close };
        let event = Event::Captured {
            group,
            slice,
            kind,
            generation: state.generation(),
            rcv_covered: 0,
            flow: flow_of(slice),
            chain,
        };
        self.feed(n, event);
    }

    /// Covered frames leave the valve in order (I6).
    pub fn release(&mut self, n: usize, slice: SliceId, generation: u64) {
        loop {
            let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
            let Some(held) = p.vmm.valve.get_mut(&slice) else { return };
            let Some(frame) = held.first().copied().filter(|f| f.generation() <= generation) else {
                p.vmm.valve.retain(|_, held| !held.is_empty());
                return;
            };
            held.remove(0);
            self.judge_release(n, slice, frame);
            self.emit(n, slice, frame);
        }
    }

    /// A frame leaves a node. The fabric lets it through if it comes from the flow's owner.
    fn emit(&mut self, n: usize, slice: SliceId, frame: Session) {
        let member = self.world.nodes[n].member();
        let Some(group) = self.world.truth.stories.get(&slice).map(|s| s.group) else { return };
        if member.is_some()
            && self.world.edge.steering(group).map(|s| s.owner) == member
            && let Some(story) = self.world.truth.edit().stories.get_mut(&slice)
        {
            story.seen = story.seen.max(Some(frame.count));
        }
    }

    /// The slice's input may come, and its last reply goes out again.
    pub fn open_gate(&mut self, n: usize, group: GroupId, slice: SliceId) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        p.vmm.gates.entry(group).or_default().open.insert(slice);
        self.hold_soon(n, slice);
    }

    /// The slice's end is committed: tombstone, and the slot goes back.
    pub fn closed(&mut self, n: usize, slice: SliceId) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        if !p.vmm.own.contains_key(&slice) {
            return self.world.violate(ENGINE, || format!("node {n} closes slice {slice} that it has not"));
        }
        p.vmm.tombs.insert(slice);
        p.vmm.forget(slice);
        p.vmm.slots_taken.remove(&slice.slot);
        p.under_way.retain(|l| !matches!(l, Local::Plugged(_, s, _) if *s == slice));
        if let Some(story) = self.world.truth.edit().stories.get_mut(&slice) {
            story.closed = true;
        }
    }
}
