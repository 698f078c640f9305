//! The event loop: packets with delays, the guest, its commits, failovers.

use super::arena::{Arena, Image};
use super::client::Options;
use super::guest::{Guest, flow_of, params, turn_lock};
use super::oracle::{Committed, Oracle};
use super::segment::{OPTION_MSS, SYN, Seen, Segment};
use super::standby::Commit;
use super::{App, Client, Rng, SECOND};
use escape_abi::message::Flow;
use escape_abi::{BootParams, GuestMessage, HostMessage, SlotWord};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

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
    /// What hand-made peers have not looked at yet.
    pub raw: HashMap<Flow, Vec<Seen>>,
    /// MSS by flow, as its SYN announced it.
    mss: HashMap<Flow, usize>,
    pub oracle: Oracle,
    wire: BinaryHeap<Reverse<InFlight>>,
    order: u64,
    guest_deadline: Option<i64>,
    /// What the standby has acknowledged, by slot.
    pub images: BTreeMap<u32, Image>,
    pub committed: HashMap<Flow, Committed>,
    pub bound: HashMap<Flow, (u32, u64)>,
    /// The last flow of each place of a slice.
    pub(super) places: HashMap<(u32, u64, usize), Flow>,
    pub messages: Vec<GuestMessage>,
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    /// Delay of a packet: 1 ms, and up to this more; unequal delays reorder.
    pub jitter: i64,
    /// Nothing gets to the server; nothing gets to the clients.
    pub cut_up: bool,
    pub cut_down: bool,
    /// From capture to acknowledgement, us: meanwhile the guest goes on, and its output waits.
    pub commit_delay: i64,
    /// Time between two captures; 0 = after each turn.
    pub commit_every: i64,
    pub(super) next_commit: i64,
    pub(super) pending: VecDeque<Commit>,
    /// How often in a hundred failovers the new owner gets no replay.
    pub mirror_loss_percent: u64,
    /// A failover between two turns lasts up to this, us.
    pub gap: i64,
    pub failovers: u32,
    /// Clocks of the next owners minus the world's; random ones when these are used up.
    pub skews: VecDeque<i64>,
    /// Turns of all guests.
    pub turns: u64,
    pub plan: Option<Kill>,
    pub(super) frames_in: u64,
    /// Inbound frames that no commit knows, numbered, as the standby's mirror has them.
    pub(super) mirror: VecDeque<(u64, Vec<u8>)>,
    pub captured_bytes: u64,
    pub captures: u64,
    /// Segments that were sent last: when, whether to the server.
    trace: VecDeque<(i64, bool, Seen)>,
}

/// Lines of the trace that a failing test prints.
const TRACE: usize = 40;

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "{} failovers, {} turns; last on the wire (us, seq+len, ack, flags, window):",
                self.failovers, self.turns
            );
            for (at, up, s) in self.trace.iter().rev() {
                let Seen { seq, ack, flags, window, .. } = s;
                println!(
                    "{at} {} {seq}+{} {ack} {flags:#x} {window}",
                    if *up { "->" } else { "  <-" },
                    s.payload.len()
                );
            }
        }
    }
}

/// What of the last turn survives a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    Nothing,
    Commit,
    CommitAndSomeFrames,
    Everything,
}

impl Survives {
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Commit, Self::CommitAndSomeFrames, Self::Everything];
}

/// A death by plan.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// In this turn, counted from 0.
    pub turn: u64,
    pub survives: Survives,
    /// The next owner dies too, when it has plugged everything and answered nobody.
    pub again: Option<Survives>,
}

impl World {
    pub fn new(seed: u64, n_slots: u32) -> Self {
        let mut rng = Rng(seed);
        let guest_seed = rng.next();
        Self::with_server_seed(rng, guest_seed, n_slots)
    }

    /// A world in which all connections of a client address are one slice.
    pub fn shared(seed: u64, n_slots: u32) -> Self {
        let mut rng = Rng(seed);
        let guest_seed = rng.next();
        Self::with_params(rng, guest_seed, BootParams { slice_per_client: 1, ..params(1, n_slots) })
    }

    /// `guest_seed` decides the first guest's initial sequence numbers.
    pub fn with_server_seed(rng: Rng, guest_seed: u64, n_slots: u32) -> Self {
        Self::with_params(rng, guest_seed, params(1, n_slots))
    }

    fn with_params(mut rng: Rng, guest_seed: u64, params: BootParams) -> Self {
        let n_slots = params.n_slots;
        let arena = Arena::new(n_slots);
        let offset = rng.below(1_000_000) as i64 * SECOND;
        let mut guest = Guest::new(&params, guest_seed, &arena, offset);
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
            raw: HashMap::new(),
            mss: HashMap::new(),
            oracle: Oracle::default(),
            wire: BinaryHeap::new(),
            order: 0,
            guest_deadline: None,
            images: BTreeMap::new(),
            committed: HashMap::new(),
            bound: HashMap::new(),
            places: HashMap::new(),
            messages: Vec::new(),
            loss_percent: 0,
            duplicate_percent: 0,
            jitter: 0,
            cut_up: false,
            cut_down: false,
            commit_delay: 0,
            commit_every: 0,
            next_commit: 0,
            pending: VecDeque::new(),
            mirror_loss_percent: 5,
            gap: 3000,
            failovers: 0,
            skews: VecDeque::new(),
            turns: 0,
            plan: None,
            frames_in: 0,
            mirror: VecDeque::new(),
            captured_bytes: 0,
            captures: 0,
            trace: VecDeque::new(),
        }
    }

    /// A client like others, with timestamps or without.
    pub fn connect(&mut self, service: u16, app: Box<dyn App>) -> usize {
        let timestamps = self.rng.chance(50);
        self.connect_with(service, Options { timestamps, ..Options::default() }, app)
    }

    pub fn connect_with(&mut self, service: u16, options: Options, app: Box<dyn App>) -> usize {
        let n = self.clients.len();
        let client = Client::new(n as u32 + 1, service, self.now, self.rng.next(), options, app);
        self.by_flow.insert(Flow { ip: client.ip, port: client.port, service_port: service }, n);
        self.clients.push(client);
        self.poll_client(n);
        n
    }

    pub fn flow(&self, client: usize) -> Flow {
        *self.by_flow.iter().find(|f| *f.1 == client).unwrap().0
    }

    fn fly(&mut self, to: Option<usize>, frame: Vec<u8>) {
        if self.rng.chance(self.loss_percent) || if to.is_some() { self.cut_down } else { self.cut_up } {
            return;
        }
        let copies = 1 + usize::from(self.rng.chance(self.duplicate_percent));
        for _ in 0..copies {
            let delay = 1000 + if self.jitter > 0 { self.rng.below(self.jitter as u64) as i64 } else { 0 };
            self.order += 1;
            self.wire.push(Reverse(InFlight { at: self.now + delay, order: self.order, to, frame: frame.clone() }));
        }
    }

    fn note(&mut self, up: bool, seen: Seen) {
        self.trace.truncate(TRACE - 1);
        self.trace.push_front((self.now, up, seen));
    }

    /// A client puts a frame on its wire.
    fn seen_from_client(&mut self, flow: Flow, seen: &Seen) {
        if seen.flags & SYN != 0 {
            let mss = seen.option(OPTION_MSS).map_or(536, |o| usize::from(u16::from_be_bytes([o[0], o[1]])));
            self.mss.insert(flow, mss.clamp(48, 1460));
        }
        self.oracle.on_client(flow, seen);
        self.note(true, seen.clone());
    }

    pub fn poll_client(&mut self, n: usize) {
        let flow = self.flow(n);
        for frame in self.clients[n].poll(self.now) {
            self.seen_from_client(flow, &Seen::parse(&frame));
            self.fly(None, frame);
        }
    }

    fn poll_all(&mut self) {
        for n in 0..self.clients.len() {
            self.poll_client(n);
        }
    }

    /// A hand-made segment reaches the server, now.
    pub fn raw_send(&mut self, segment: Segment) {
        let frame = segment.frame();
        self.seen_from_client(segment.flow, &Seen::parse(&frame));
        self.take_turn(vec![frame], None);
    }

    /// What was released to a hand-made peer since the last call.
    pub fn raw_take(&mut self, flow: Flow) -> Vec<Seen> {
        std::mem::take(self.raw.get_mut(&flow).unwrap())
    }

    /// One turn of the guest on what is due; then commits and releases, or dies as `kill` says.
    pub fn turn(&mut self, frames: Vec<Vec<u8>>, kill: Option<Survives>) {
        self.turns += 1;
        let lock = turn_lock();
        self.guest.set_time(self.now);
        for frame in frames {
            self.guest.server.on_frame(&frame);
            self.frames_in += 1;
            self.mirror.push_back((self.frames_in, frame));
        }
        self.guest_deadline = self.guest.server.on_timers().map(|t| t - self.guest.clock_offset);
        drop(lock);
        match kill {
            None => self.commit(),
            Some(survives) => self.die(survives),
        }
    }

    /// A turn; if this is the one in which the guest is to die, the failover too.
    fn take_turn(&mut self, frames: Vec<Vec<u8>>, kill: Option<Survives>) {
        let plan = self.plan.filter(|p| kill.is_none() && p.turn == self.turns);
        self.turn(frames, kill.or(plan.map(|p| p.survives)));
        if let Some(plan) = plan {
            if let Some(again) = plan.again {
                self.take_over(Some(again));
            }
            self.take_over(None);
        }
    }

    pub fn release(&mut self, frame: Vec<u8>) {
        let Some(flow) = flow_of(&frame) else { return };
        self.note(false, Seen::parse(&frame));
        let (to, mss) = (self.by_flow.get(&flow).copied(), self.mss.get(&flow).copied());
        let committed = self.committed.get(&flow).copied();
        self.oracle.on_release(flow, &frame, committed.expect("no commit knows this flow"), mss.unwrap());
        if let Some(inbox) = self.raw.get_mut(&flow) {
            inbox.push(Seen::parse(&frame));
        } else {
            self.fly(Some(to.expect("somebody's flow")), frame);
        }
    }

    /// The guest is dead; another one, with another clock, takes over what the standby has.
    pub fn failover(&mut self) {
        self.take_over(None);
    }

    /// With `dies` the new guest does not live to see an answer: it dies after its plugs.
    pub fn take_over(&mut self, dies: Option<Survives>) {
        self.failovers += 1;
        self.params.node += 1;
        let random = self.rng.below(1_000_000) as i64 * SECOND;
        let offset = self.skews.pop_front().unwrap_or(random);
        let n_slots = self.arena.n_slots;
        self.guest = Guest::new(&self.params, self.rng.next(), &self.arena, offset);
        (self.next_commit, self.guest_deadline) = (0, None);
        self.pending.clear();
        self.now += self.rng.below(self.gap.max(1) as u64) as i64;
        self.guest.set_time(self.now);
        let images: Vec<(u32, Image)> = self.images.iter().map(|(s, i)| (*s, i.clone())).collect();
        // Which flow a slice has is known from its first life.
        self.bound.clear();
        for (slot, image) in &images {
            let flows: Vec<Flow> = self.open_flows(*slot, &image.meta).collect();
            self.bound.extend(flows.into_iter().map(|flow| (flow, (*slot, image.meta.incarnation))));
        }
        for first in (0..n_slots).step_by(64) {
            self.guest.lease(first, 1 + self.failovers);
        }
        let (lock, mut plugs) = (turn_lock(), Vec::new());
        for (slot, image) in images {
            let incarnation = image.meta.incarnation;
            self.arena.restore(slot, &image, &mut self.rng);
            self.guest.control.set_word(slot, SlotWord::new(image.generation, 0));
            self.guest.server.on_message(HostMessage::Plug { slot, incarnation });
            plugs.push(GuestMessage::Plugged { slot, incarnation, status: 0 });
            for flow in self.ended_flows(slot, &image.meta).collect::<Vec<_>>() {
                self.guest.server.on_message(HostMessage::ConnectionFree { slot, incarnation, flow });
            }
        }
        drop(lock);
        let said = &self.guest.server.host().messages;
        assert!(plugs.iter().all(|p| said.contains(p)), "{plugs:?} {said:?}");
        if let Some(survives) = dies {
            return self.die(survives);
        }
        // The gate opens, replay first; now and then the mirror has lost them, and the clients' timers must do.
        let lost = self.rng.chance(self.mirror_loss_percent);
        let replay = std::mem::take(&mut self.mirror).into_iter().filter(|_| !lost).map(|(_, f)| f);
        self.turn(replay.collect(), None);
    }

    /// When something happens next.
    fn next_event(&mut self) -> Option<i64> {
        let packet = self.wire.peek().map(|p| p.0.at);
        let now = self.now;
        let client = self.clients.iter_mut().filter_map(|c| c.deadline(now)).min();
        [packet, self.guest_deadline, client, self.commit_deadline()].into_iter().flatten().min()
    }

    /// Goes on to the next event; `false` if there is none.
    pub fn step(&mut self, kill: Option<Survives>) -> bool {
        let Some(next) = self.next_event() else { return false };
        self.now = next.max(self.now);
        let mut frames = Vec::new();
        while self.wire.peek().is_some_and(|p| p.0.at <= self.now) {
            let Reverse(p) = self.wire.pop().unwrap();
            match p.to {
                None => frames.push(p.frame),
                Some(n) => self.clients[n].deliver(&p.frame),
            }
        }
        let due = self.guest_deadline.is_some_and(|t| t <= self.now);
        if !frames.is_empty() || due || kill.is_some() {
            self.take_turn(frames, kill);
        } else if self.commit_deadline().is_some_and(|t| t <= self.now) {
            self.commit();
        }
        self.poll_all();
        true
    }

    /// Runs for a time, to the microsecond unless a failover takes longer.
    pub fn run_for(&mut self, us: i64) {
        let end = self.now + us;
        while self.next_event().is_some_and(|t| t <= end) && self.step(None) {}
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
