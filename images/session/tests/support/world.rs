//! The event loop: packets with delays, the guest, its commits, failovers.

use super::arena::{Arena, Image};
use super::guest::{Guest, flow_of, params};
use super::{App, Client, Rng, SECOND};
use escape_abi::message::Flow;
use escape_abi::meta::meta_flag;
use escape_abi::{BootParams, GuestMessage, HostMessage, SlotWord};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    at: i64,
    order: u64,
    /// Number of the client; `None` = to the server.
    to: Option<usize>,
    frame: Vec<u8>,
}

pub struct World {
    pub now: i64,
    pub rng: Rng,
    pub arena: Arena,
    pub guest: Guest,
    pub params: BootParams,
    pub clients: Vec<Client>,
    by_flow: HashMap<Flow, usize>,
    wire: BinaryHeap<Reverse<InFlight>>,
    order: u64,
    guest_deadline: Option<i64>,
    /// What the standby has acknowledged, by slot.
    pub images: BTreeMap<u32, Image>,
    pub bound: HashMap<Flow, (u32, u64)>,
    pub messages: Vec<GuestMessage>,
    pub loss_percent: u64,
    /// Delay of a packet: 1 ms, and up to this more; unequal delays reorder.
    pub jitter: i64,
    pub failovers: u32,
    /// Frames of the turn in which the guest died, as the standby's mirror has them.
    mirrored: Vec<Vec<u8>>,
    pub captured_bytes: u64,
    pub captures: u64,
}

/// What of the last turn survives a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    Nothing,
    Commit,
    CommitAndSomeFrames,
}

impl World {
    pub fn new(seed: u64, n_slots: u32) -> Self {
        let mut rng = Rng(seed);
        let arena = Arena::new(n_slots);
        let params = params(1, n_slots);
        let offset = rng.below(1_000_000) as i64 * SECOND;
        let mut guest = Guest::new(&params, rng.next(), &arena, offset);
        for first in (0..n_slots).step_by(64) {
            guest.lease(first, 1);
        }
        Self {
            now: 10 * SECOND,
            rng,
            arena,
            guest,
            params,
            clients: Vec::new(),
            by_flow: HashMap::new(),
            wire: BinaryHeap::new(),
            order: 0,
            guest_deadline: None,
            images: BTreeMap::new(),
            bound: HashMap::new(),
            messages: Vec::new(),
            loss_percent: 0,
            jitter: 0,
            failovers: 0,
            mirrored: Vec::new(),
            captured_bytes: 0,
            captures: 0,
        }
    }

    pub fn connect(&mut self, service: u16, app: Box<dyn App>) -> usize {
        let n = self.clients.len();
        let client = Client::new(n as u32 + 1, service, self.now, self.rng.next(), app);
        let flow = Flow { ip: client.ip, port: client.port, service_port: service };
        self.by_flow.insert(flow, n);
        self.clients.push(client);
        self.poll_client(n);
        n
    }

    fn fly(&mut self, to: Option<usize>, frame: Vec<u8>) {
        if self.rng.chance(self.loss_percent) {
            return;
        }
        let delay = 1000 + if self.jitter > 0 { self.rng.below(self.jitter as u64) as i64 } else { 0 };
        self.order += 1;
        self.wire.push(Reverse(InFlight { at: self.now + delay, order: self.order, to, frame }));
    }

    pub fn poll_client(&mut self, n: usize) {
        for frame in self.clients[n].poll(self.now) {
            self.fly(None, frame);
        }
    }

    fn poll_all(&mut self) {
        for n in 0..self.clients.len() {
            self.poll_client(n);
        }
    }

    /// One turn of the guest on what is due; then commits and releases, or dies as `kill` says.
    pub fn turn(&mut self, frames: Vec<Vec<u8>>, kill: Option<Survives>) {
        self.guest.set_time(self.now);
        for frame in &frames {
            self.guest.server.on_frame(frame);
        }
        self.mirrored = if kill.is_some() { frames } else { Vec::new() };
        self.guest_deadline = self.guest.server.on_timers().map(|t| t - self.guest.clock_offset);
        if kill == Some(Survives::Nothing) {
            self.guest.take();
            return;
        }
        let frames = self.commit();
        let some = kill == Some(Survives::CommitAndSomeFrames);
        for frame in frames {
            if kill.is_none() || some && self.rng.chance(50) {
                self.release(frame);
            }
        }
    }

    fn release(&mut self, frame: Vec<u8>) {
        let n = flow_of(&frame).and_then(|f| self.by_flow.get(&f).copied());
        if let Some(n) = n {
            self.fly(Some(n), frame);
        }
    }

    /// What the VMM does: takes up messages, captures every slice that has output or changed.
    fn commit(&mut self) -> Vec<Vec<u8>> {
        let (frames, messages) = self.guest.take();
        let mut slots = Vec::new();
        for m in &messages {
            match *m {
                GuestMessage::Bind { slot, incarnation, flow } => {
                    self.bound.insert(flow, (slot, incarnation));
                }
                GuestMessage::Changed { slot } => slots.push(slot),
                GuestMessage::Close { slot, incarnation } => {
                    let meta = self.guest.control.meta(slot);
                    assert_eq!((meta.flags, meta.incarnation), (meta_flag::CLOSED, incarnation));
                    self.images.remove(&slot);
                    self.bound.retain(|_, b| *b != (slot, incarnation));
                    self.guest.server.on_message(HostMessage::SlotFree { slot, incarnation });
                }
                _ => {}
            }
        }
        self.messages.extend(messages);
        for frame in &frames {
            // Frames of a slice that ended in this turn belong to its CLOSE.
            if let Some((slot, _)) = flow_of(frame).and_then(|f| self.bound.get(&f)) {
                slots.push(*slot);
            }
        }
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            if self.bound.values().any(|b| b.0 == slot) {
                let image = self.arena.capture(&self.guest.control, slot);
                self.captures += 1;
                self.captured_bytes += image.bytes() as u64;
                self.images.insert(slot, image);
            }
        }
        frames
    }

    /// The guest dies; another one, with another clock, takes over what the standby has.
    pub fn failover(&mut self) {
        self.failovers += 1;
        self.params.node += 1;
        let offset = self.rng.below(1_000_000) as i64 * SECOND;
        let n_slots = self.arena.n_slots;
        self.guest = Guest::new(&self.params, self.rng.next(), &self.arena, offset);
        self.now += self.rng.below(3000) as i64;
        self.guest.set_time(self.now);
        // What the VMM knows from each slice's first life.
        let flows: HashMap<(u32, u64), Flow> = self.bound.drain().map(|(flow, slice)| (slice, flow)).collect();
        let images: Vec<(u32, Image)> = self.images.iter().map(|(s, i)| (*s, i.clone())).collect();
        for first in (0..n_slots).step_by(64) {
            self.guest.lease(first, 1 + self.failovers);
        }
        for (slot, image) in images {
            let incarnation = image.meta.incarnation;
            self.arena.restore(slot, &image, &mut self.rng);
            self.guest.control.set_word(slot, SlotWord::new(image.generation, 0));
            self.guest.server.on_message(HostMessage::Plug { slot, incarnation });
            let (frames, messages) = self.guest.take();
            let plugged = GuestMessage::Plugged { slot, incarnation, status: 0 };
            assert!(messages.contains(&plugged), "{messages:?}");
            self.bound.extend(flows.get(&(slot, incarnation)).map(|flow| (*flow, (slot, incarnation))));
            let host = self.guest.server.host();
            host.frames = frames;
            host.messages = messages;
            for frame in self.commit() {
                self.release(frame);
            }
        }
        // The gate opens, replay first; now and then the mirror has lost them, and the clients' timers must do.
        let replay = std::mem::take(&mut self.mirrored);
        let lost = self.rng.chance(5);
        self.turn(if lost { vec![] } else { replay }, None);
    }

    /// Goes on to the next event; `false` if there is none.
    pub fn step(&mut self, kill: Option<Survives>) -> bool {
        let packet = self.wire.peek().map(|p| p.0.at);
        let now = self.now;
        let client = self.clients.iter_mut().filter_map(|c| c.deadline(now)).min();
        let Some(next) = [packet, self.guest_deadline, client].into_iter().flatten().min() else { return false };
        self.now = next.max(self.now);
        let mut frames = Vec::new();
        let mut reached = Vec::new();
        while let Some(p) = self.wire.peek().filter(|p| p.0.at <= self.now) {
            let _ = p;
            let Reverse(p) = self.wire.pop().unwrap();
            match p.to {
                None => frames.push(p.frame),
                Some(n) => {
                    self.clients[n].deliver(&p.frame);
                    reached.push(n);
                }
            }
        }
        let due = self.guest_deadline.is_some_and(|t| t <= self.now);
        if !frames.is_empty() || due {
            self.turn(frames, kill);
        }
        self.poll_all();
        true
    }

    /// Runs for a time.
    pub fn run_for(&mut self, us: i64) {
        let end = self.now + us;
        while self.now < end && self.step(None) {}
        self.now = self.now.max(end);
    }

    /// Runs until `done`; fails after `limit` us of world time.
    pub fn run_until(&mut self, limit: i64, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "not done after {} s: {:?}", limit / SECOND, self.guest.server.counters());
            assert!(self.step(None), "nothing more will happen");
        }
    }
}
