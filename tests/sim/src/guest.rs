//! Packets, the guest's work, captures, releases, and the gate.

use crate::network::Endpoint;
use crate::node_process::{Local, NodeProcess};
use crate::service::{Reply, Request, Session, bucket};
use crate::vmm::{Held, Image, Running};
use crate::world::{Happening, World};
use escape_engine::node::Event;
use escape_engine::node::LeaseUse;
use escape_proto::{
    BodyKind, ChainHash, CheckpointNo, EdgeRequest, Flow, FlowEntry, GroupId, LeaseRecord, LeaseState, SliceId,
    ToOrchestrator,
};
use std::ops::Range;

impl World {
    /// A packet reaches a node: from the fabric, or as a mirror's copy.
    pub fn packet_in(&mut self, n: usize, request: Request, mirrored: bool) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        if mirrored {
            p.vmm.mirror.insert(request.flow, request);
            return;
        }
        if let Some(tomb) = p.vmm.tombs.get(&request.flow).copied() {
            return self.emit(n, tomb);
        }
        let slice = p.vmm.guest.iter().find(|(_, r)| r.flow == request.flow).map(|(s, r)| (*s, r.group));
        let imaged = p.vmm.own.values().find(|i| i.flow == request.flow).map(|i| i.group);
        let group = slice.map(|(_, g)| g).or(imaged).or_else(|| p.buckets.group(bucket(request.flow)));
        let Some(group) = group else { return };
        let Some((_, gate)) = p.vmm.gates.get_mut(&group) else { return };
        let passes = gate.all_open || slice.is_some_and(|(s, _)| gate.open.contains(&s));
        match slice {
            Some((slice, _)) if passes => self.serve(n, slice, request),
            _ if !passes => gate.keep(request),
            None if request.number == 0 => self.open_session(n, group, request.flow),
            // The VMM drops frames of flows that are not bound: no RST leaves.
            _ => {}
        }
    }

    /// The guest serves a request, or repeats its last reply.
    fn serve(&mut self, n: usize, slice: SliceId, request: Request) {
        let entropy = self.rng.next();
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some(running) = p.vmm.guest.get_mut(&slice).filter(|r| !r.frozen) else { return };
        if request.number > running.state.count + 1 {
            let (has, asked) = (running.state.count, request.number);
            return self.judge_gap(n, slice, has, asked);
        }
        if request.number == running.state.count + 1 && !running.state.closed && request.poison {
            return self.poisoned(n, slice);
        }
        if request.number == running.state.count + 1 && !running.state.closed {
            running.state = running.state.serve(entropy, request.close);
            running.generation += 1;
            self.hold(n, slice);
        } else if request.number == running.state.count {
            self.hold(n, slice);
        }
    }

    /// A request kills the guest under its slice's reference; now and then another slice is referenced too.
    fn poisoned(&mut self, n: usize, slice: SliceId) {
        let others = self.nodes[n].process.as_ref().map_or(0, |p| p.vmm.guest.len());
        let other = if self.rng.one_in(4) { Some(self.rng.index(others)) } else { None };
        let Some(p) = self.nodes[n].process.as_ref() else { return };
        let mut suspects = vec![slice];
        suspects.extend(other.and_then(|i| p.vmm.guest.keys().nth(i)).filter(|s| **s != slice));
        self.oracle.poisonings += 1;
        self.crash_guest(n, suspects);
    }

    /// The VMM gives a slice up: it caught it lying, or its guest has poisoned it.
    pub fn quarantine(&mut self, n: usize) {
        let choice = self.rng.index(64);
        let Some(p) = self.nodes[n].process.as_mut().filter(|p| !p.paused && !p.vmm.guest.is_empty()) else { return };
        let running = p.vmm.guest.iter().nth(choice % p.vmm.guest.len()).map(|(s, r)| (*s, r.group));
        let Some((slice, group)) = running else { return };
        p.vmm.forget(slice);
        self.oracle.give_slice_up(slice);
        self.feed(n, Event::Quarantined { group, slice, cause: "lies".to_owned() });
    }

    /// A new connection: a slot, a socket, a binding, and a SYN-ACK that waits for the CREATE.
    fn open_session(&mut self, n: usize, group: GroupId, flow: Flow) {
        let entropy = self.rng.next();
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        if p.vmm.guest_life.is_none() || !p.engine.owns(group) {
            return;
        }
        let Some(slice) = take_slot(p) else { return };
        let state = Session::open(entropy);
        let running = Running { group, flow, state, generation: 1, capture_due: false, frozen: false, rested: false };
        p.vmm.guest.insert(slice, running);
        self.oracle.created(slice, group, flow);
        self.judge_slot(n, slice);
        self.send_edge(n, EdgeRequest::Flows(vec![FlowEntry { flow, group }]));
        self.hold(n, slice);
    }

    /// The node says which leases it has something in, and whether it needs more.
    pub fn report_leases(&mut self, n: usize) {
        let Some(p) = self.nodes[n].process.as_ref() else { return };
        let active = p.leases.len() as u32;
        let taken = |slot: &u32| p.vmm.slots_taken.contains(slot);
        let free_slots = p.leases.iter().flat_map(slots_of).filter(|s| !taken(s)).count() as u32;
        let in_use = LeaseUse { active, free_slots, spent: p.spent.clone() };
        if let Some(report) = p.engine.lease_report(in_use) {
            self.send_orchestrator(n, ToOrchestrator::Leases(report));
        }
    }

    /// Queues the slice's present reply in the valve and has the slice captured soon.
    pub fn hold(&mut self, n: usize, slice: SliceId) {
        let now = self.now;
        let delay = if self.rng.one_in(12) { self.rng.range(200, 2_000) } else { self.rng.range(10, 120) };
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some(running) = p.vmm.guest.get_mut(&slice) else { return };
        let reply = Reply { flow: running.flow, slice, state: running.state };
        let held = Held { need: running.generation, since: now, reply };
        p.vmm.valve.entry(slice).or_default().push_back(held);
        if !std::mem::replace(&mut running.capture_due, true) {
            let (life, guest) = (p.life, p.vmm.guest_life.unwrap_or(0));
            self.after(delay, Happening::Local { node: n, life, what: Local::Capture(slice, guest) });
        }
    }

    /// The VMM captures a slice into its own image.
    pub fn capture(&mut self, n: usize, slice: SliceId) {
        let as_full = self.rng.one_in(25);
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some(running) = p.vmm.guest.get_mut(&slice) else { return };
        running.capture_due = false;
        if running.rested {
            return;
        }
        let running = *running;
        let body = running.state.encode();
        let image = p.vmm.own.entry(slice).or_insert_with(|| Image {
            group: running.group,
            flow: running.flow,
            no: CheckpointNo(0),
            chain: ChainHash::START,
            generation: 0,
            state: running.state,
            body: Vec::new(),
            ended: false,
        });
        if image.ended {
            return;
        }
        let kind = match image.no.0 {
            0 => BodyKind::Create,
            _ if running.state.closed => BodyKind::Close,
            _ if as_full => BodyKind::Full,
            _ => BodyKind::Delta,
        };
        image.no = image.no.next();
        image.chain = image.chain.next(&body);
        image.generation = running.generation;
        image.state = running.state;
        image.body = body;
        image.ended = kind == BodyKind::Close;
        let event = Event::Captured {
            group: running.group,
            slice,
            kind,
            generation: running.generation,
            rcv_covered: running.state.count as u32,
            flow: running.flow,
            chain: image.chain,
        };
        self.feed(n, event);
    }

    /// Covered frames leave the valve in order (I6).
    pub fn release(&mut self, n: usize, slice: SliceId, generation: u64) {
        loop {
            let Some(p) = self.nodes[n].process.as_mut() else { return };
            let Some(queue) = p.vmm.valve.get_mut(&slice) else { return };
            let Some(held) = queue.front().copied().filter(|h| h.need <= generation) else { return };
            queue.pop_front();
            self.judge_release(n, slice, held.reply.state);
            self.emit(n, held.reply);
        }
    }

    /// A frame leaves a node. The fabric lets it through if it comes from the flow's owner.
    fn emit(&mut self, n: usize, reply: Reply) {
        let member = self.member_of(Endpoint::Node(n));
        let owner = self.fabric.steering(reply.flow).map(|s| s.owner);
        if owner.is_none() || owner != member || self.rng.one_in(60) {
            return;
        }
        let Some(client) = self.clients.iter().position(|c| c.flow() == reply.flow) else { return };
        let delay = self.rng.range(30, 300);
        self.after(delay, Happening::ToClient { client, reply });
    }

    /// A slice is in the guest.
    pub fn plug(&mut self, n: usize, group: GroupId, slice: SliceId) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        if let Some(image) = p.vmm.own.get(&slice).filter(|_| p.engine.owns(group)) {
            let (flow, state, generation) = (image.flow, image.state, image.generation);
            let running = Running { group, flow, state, generation, capture_due: false, frozen: false, rested: false };
            p.vmm.guest.insert(slice, running);
            self.judge_plug(n, group, slice);
            self.feed(n, Event::Plugged { group, slice, ok: true });
        }
    }

    /// The slice's input may come: what the gate and the mirror kept first; and its last reply goes out again.
    pub fn open_gate(&mut self, n: usize, group: GroupId, slice: SliceId) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some((_, gate)) = p.vmm.gates.get_mut(&group) else { return };
        gate.open.insert(slice);
        let Some(flow) = p.vmm.guest.get(&slice).map(|r| r.flow) else { return };
        let mut kept: Vec<Request> = p.vmm.mirror.remove(&flow).into_iter().collect();
        kept.extend(gate.queue.iter().filter(|r| r.flow == flow));
        gate.queue.retain(|r| r.flow != flow);
        self.hold(n, slice);
        for request in kept {
            self.packet_in(n, request, false);
        }
    }

    /// All of the group is decided: everything may come in.
    pub fn open_group(&mut self, n: usize, group: GroupId) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some((_, gate)) = p.vmm.gates.get_mut(&group) else { return };
        gate.all_open = true;
        let kept = std::mem::take(&mut gate.queue);
        self.judge_opening(n, group);
        for request in kept {
            self.packet_in(n, request, false);
        }
    }

    /// The slice's end is committed: tombstone, and the slot goes back.
    pub fn closed(&mut self, n: usize, slice: SliceId) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some(image) = p.vmm.own.get(&slice) else {
            return self.oracle.violate("engine", format!("node {n} closes slice {slice} that it has not"));
        };
        let reply = Reply { flow: image.flow, slice, state: image.state };
        p.vmm.tombs.insert(reply.flow, reply);
        p.vmm.forget(slice);
        p.vmm.slots_taken.remove(&slice.slot);
        self.oracle.closed(slice);
        self.send_edge(n, EdgeRequest::Closed(vec![reply.flow]));
    }

    /// Standby: the image becomes a tombstone.
    pub fn entomb(&mut self, n: usize, slice: SliceId) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        if let Some(image) = p.vmm.standby.remove(&slice) {
            let reply = Reply { flow: image.flow, slice, state: image.state };
            p.vmm.tombs.insert(image.flow, reply);
            self.oracle.entombed(slice, image.state);
        }
    }
}

/// Slots of a lease that a node of this model uses: few, so that leases run out.
fn slots_of(lease: &LeaseRecord) -> Range<u32> {
    lease.lease.0 * 64..lease.lease.0 * 64 + 8
}

/// The lowest free slot of the node's leases, with its next incarnation.
fn take_slot(p: &mut NodeProcess) -> Option<SliceId> {
    for lease in p.leases.iter().filter(|l| l.state == LeaseState::Active) {
        for slot in slots_of(lease) {
            if p.vmm.slots_taken.insert(slot) {
                let counter = p.vmm.slot_counters.entry(slot).or_insert(0);
                *counter += 1;
                return Some(SliceId { slot, inc: u64::from(lease.generation) << 32 | u64::from(*counter) });
            }
        }
    }
    None
}
