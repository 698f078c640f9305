//! A node: the production engine, and the model of its VMM.

use crate::network::Endpoint;
use crate::vmm::Vmm;
use crate::world::{Happening, Message, World};
use escape_engine::node::{Event, NodeConfig, NodeEngine};
use escape_engine::{Mutant, Suspicion, SuspicionConfig};
use escape_proto::{
    Beat, Body, BucketTable, CheckpointHead, EdgeReply, EdgeRequest, Epoch, FlowEntry, FromOrchestrator, GroupId,
    JoinReply, JoinRequest, LeaseRecord, LeaseSet, LeaseState, Member, NodeId, NodeState, PeerMessage, Revision,
    SliceId, ToOrchestrator,
};
use std::collections::{BTreeMap, VecDeque};

/// Something inside a node.
#[derive(Clone, Debug)]
pub enum Local {
    /// The loop's timer.
    Tick,
    /// The heartbeat thread's timer.
    Beat,
    /// The next checkpoint that waits is applied.
    Apply,
    /// The gate is closed.
    GateClosed(GroupId, Epoch),
    /// A slice is in the guest (of this life).
    Plugged(GroupId, SliceId, u64),
    /// A slice of the guest (of this life) is captured.
    Capture(SliceId, u64),
    /// A slice of the guest (of this life) comes to rest, to be moved.
    Rest(GroupId, SliceId, u64),
    /// The guest runs.
    GuestReady,
}

/// A node's process.
#[derive(Debug)]
pub struct NodeProcess {
    /// Which process.
    pub life: u64,
    /// The machine under test.
    pub engine: NodeEngine,
    /// The VMM.
    pub vmm: Vmm,
    /// Stopped.
    pub paused: bool,
    /// Stopped, but heartbeats go on.
    pub beats_go_on: bool,
    /// What waits meanwhile.
    pub inbox: VecDeque<Happening>,
    /// Members at the other end of links.
    pub peers: BTreeMap<usize, Member>,
    /// Placement.
    pub buckets: BucketTable,
    /// Leases.
    pub leases: Vec<LeaseRecord>,
    /// Leases that a guest which is no more allocated from.
    pub spent: LeaseSet,
    /// Checkpoints that wait to be applied.
    pub applies: VecDeque<(Member, CheckpointHead, u64)>,
    /// When the last of them will be.
    pub applies_at: u64,
    /// Name of what the process remembers.
    memory: u64,
    /// The life that is over and whose images it still has, until it joins anew.
    pub former: Option<Member>,
    suspicion: Suspicion,
    beat_seq: u64,
    turns: u64,
    next_body: u64,
}

impl NodeProcess {
    /// Leases as the records have them: own ones that it may allocate from, and those that the store has taken back.
    fn take_leases(&mut self, records: Vec<LeaseRecord>) {
        for record in records {
            self.leases.retain(|l| l.lease != record.lease);
            let mine = Some(record.holder) == self.engine.me() && record.state == LeaseState::Active;
            if !mine {
                self.spent.remove(record.lease);
            } else if !self.spent.contains(record.lease) {
                self.leases.push(record);
            }
        }
    }

    /// The guest has forgotten which slots it gave: those in use live on elsewhere.
    pub fn spend_leases(&mut self) {
        for lease in std::mem::take(&mut self.leases) {
            self.spent.insert(lease.lease);
            self.vmm.slots_taken.retain(|slot| slot / 64 != lease.lease.0);
        }
    }
}

impl World {
    /// Starts a node's process.
    pub fn start_node(&mut self, n: usize) {
        if self.nodes[n].process.is_some() {
            return;
        }
        let life = self.last_life;
        let config = NodeConfig {
            replace_after_us: 200_000,
            sync_stall_us: 150_000,
            slots_low: 3,
            syncs_max: 2,
            fulls_max: 2,
            broken: self.plan.broken,
            ..NodeConfig::new(NodeId(n as u16), self.nodes[n].host.clone())
        };
        self.nodes[n].process = Some(NodeProcess {
            life,
            engine: NodeEngine::new(config),
            vmm: Vmm::default(),
            paused: false,
            beats_go_on: false,
            inbox: VecDeque::new(),
            peers: BTreeMap::new(),
            buckets: BucketTable::default(),
            leases: Vec::new(),
            spent: LeaseSet::default(),
            applies: VecDeque::new(),
            applies_at: 0,
            // The fault: the same name for every process of the node.
            memory: if self.plan.broken == Some(Mutant::ClaimWithoutMemory) { n as u64 + 1 } else { life },
            former: None,
            suspicion: Suspicion::new(SuspicionConfig::default()),
            beat_seq: 0,
            turns: 0,
            next_body: 0,
        });
        let delay = self.rng.range(1_000, 20_000);
        self.after(delay, Happening::Local { node: n, life, what: Local::GuestReady });
        self.after(1_000, Happening::Local { node: n, life, what: Local::Tick });
        self.after(1_500, Happening::Local { node: n, life, what: Local::Beat });
    }

    /// Ends a node's process at once: all its memory is gone.
    pub fn crash_node(&mut self, n: usize) {
        let Some(p) = self.nodes[n].process.take() else { return };
        if let Some(member) = p.engine.me() {
            self.oracle.bury(member, p.vmm);
        }
        for link in 0..self.links.len() {
            if let Some(side) = self.links[link].side(Endpoint::Node(n)) {
                self.reset(link);
                self.links[link].told_up[side] = 0;
                self.links[link].rest.1[side] = 0;
            }
        }
    }

    /// A node's life is over, its process goes on: it keeps its images, and nothing else, until it has joined anew.
    pub fn step_out(&mut self, n: usize) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let peers = std::mem::take(&mut p.peers);
        p.leases.clear();
        p.spent = LeaseSet::default();
        p.applies.clear();
        p.vmm.step_out();
        let (life, guest_ran) = (p.life, p.vmm.guest_life.take().is_some());
        for member in peers.into_values() {
            self.feed(n, Event::PeerDown(member));
        }
        for link in 0..self.links.len() {
            if self.links[link].side(Endpoint::Node(n)).is_some() {
                self.reset(link);
            }
        }
        if guest_ran {
            self.feed(n, Event::GuestDown { suspects: Vec::new() });
            let delay = self.rng.range(2_000, 20_000);
            self.after(delay, Happening::Local { node: n, life, what: Local::GuestReady });
        }
    }

    /// The node's process, if it is this one.
    pub fn process(&mut self, n: usize, life: u64) -> Option<&mut NodeProcess> {
        self.nodes[n].process.as_mut().filter(|p| p.life == life)
    }

    /// Gives the engine an event and carries out what it wants.
    pub fn feed(&mut self, n: usize, event: Event) {
        let now = self.time_at(Endpoint::Node(n));
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        p.turns += 1;
        let mut out = Vec::new();
        let before = p.engine.me();
        p.engine.on(now, event, &mut out);
        if let Some(over) = before.filter(|_| p.engine.me().is_none()) {
            p.former = Some(over);
            let vmm = p.vmm.clone();
            self.oracle.bury(over, vmm);
        }
        let Some(p) = self.nodes[n].process.as_ref() else { return };
        let life = p.life;
        for command in out {
            if self.process(n, life).is_none() {
                return;
            }
            self.tell(|| format!("  node {n}: {command:?}"));
            self.command(n, command);
        }
    }

    /// Something inside a node happens.
    pub fn local(&mut self, n: usize, life: u64, what: Local) {
        let guest_life = match self.process(n, life) {
            Some(p) => p.vmm.guest_life,
            None => return,
        };
        match what {
            Local::Tick => {
                self.feed(n, Event::Tick);
                if self.rng.one_in(4) {
                    self.report_leases(n);
                }
                let delay = self.rng.range(2_000, 4_000);
                self.after(delay, Happening::Local { node: n, life, what: Local::Tick });
            }
            Local::Beat => self.beat(n, life),
            Local::Apply => self.apply_next(n),
            Local::GateClosed(group, epoch) => self.feed(n, Event::GateClosed { group, epoch }),
            Local::Plugged(group, slice, guest) if guest_life == Some(guest) => self.plug(n, group, slice),
            Local::Capture(slice, guest) if guest_life == Some(guest) => self.capture(n, slice),
            Local::Rest(group, slice, guest) if guest_life == Some(guest) => self.rest(n, group, slice),
            Local::Plugged(..) | Local::Capture(..) | Local::Rest(..) => {}
            Local::GuestReady => {
                if let Some(p) = self.process(n, life).filter(|p| p.vmm.guest_life.is_none()) {
                    p.turns += 1;
                    p.vmm.guest_life = Some(p.turns);
                    self.feed(n, Event::GuestReady);
                }
            }
        }
    }

    fn apply_next(&mut self, n: usize) {
        let reuse = self.plan.broken == Some(Mutant::ReuseSlot);
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some((from, head, body)) = p.applies.pop_front() else { return };
        let body = p.vmm.bodies.remove(&body).unwrap_or_default();
        let result = p.vmm.apply(&head, &body, reuse);
        self.feed(n, Event::Applied { from, head, result });
    }

    fn beat(&mut self, n: usize, life: u64) {
        let now = self.time_at(Endpoint::Node(n));
        let count = self.nodes.len();
        let Some(p) = self.process(n, life) else { return };
        let suspects = p.suspicion.suspects(now);
        if let Some(me) = p.engine.me() {
            p.beat_seq += 1;
            let beat = Beat { node: me.node, inc: me.inc, seq: p.beat_seq, data_turns: p.turns, suspects };
            for to in (0..count).filter(|i| *i != n) {
                self.send_beat(Endpoint::Node(n), Endpoint::Node(to), beat);
            }
            self.send_beat(Endpoint::Node(n), Endpoint::Orchestrator, beat);
        }
        let delay = self.rng.range(3_500, 4_500);
        self.after(delay, Happening::Local { node: n, life, what: Local::Beat });
    }

    /// A heartbeat reaches a process.
    pub fn beat_arrives(&mut self, to: Endpoint, beat: Beat) {
        let now = self.time_at(to);
        match to {
            Endpoint::Node(n) => {
                if let Some(p) = self.nodes[n].process.as_mut() {
                    p.suspicion.beat(now, &beat);
                }
            }
            Endpoint::Orchestrator => self.orchestrator_beat(beat),
            Endpoint::Edge => {}
        }
    }

    /// A message for a node.
    pub fn node_receives(&mut self, n: usize, from: Endpoint, link: usize, message: Message) {
        match (message, from) {
            (Message::Up(Some(member)), Endpoint::Node(_)) => {
                if let Some(p) = self.nodes[n].process.as_mut() {
                    p.peers.insert(link, member);
                }
                self.feed(n, Event::PeerUp(member));
            }
            (Message::Up(_), Endpoint::Orchestrator) => self.ask_to_join(n, link),
            (Message::Up(_), Endpoint::Edge) => self.tell_edge(n, link),
            (Message::Peer(message), _) => self.peer_message(n, link, message),
            (Message::FromOrchestrator(message), _) => self.orchestrator_message(n, message),
            (Message::FromEdge(EdgeReply::Flipped { groups }), _) => {
                for (group, epoch) in groups {
                    self.feed(n, Event::Flipped { group, epoch });
                }
            }
            _ => {}
        }
    }

    /// A node has lost a connection.
    pub fn node_loses(&mut self, n: usize, link: usize) {
        let member = self.nodes[n].process.as_mut().and_then(|p| p.peers.remove(&link));
        if let Some(member) = member {
            self.feed(n, Event::PeerDown(member));
        }
    }

    fn ask_to_join(&mut self, n: usize, link: usize) {
        let place = &self.nodes[n];
        if place.process.as_ref().is_none_or(|p| p.engine.me().is_some()) {
            return;
        }
        let seen = if self.plan.broken == Some(Mutant::EpochReused) { Revision(0) } else { place.seen };
        let request = JoinRequest {
            host: place.host.clone(),
            digest: [1; 32],
            addr: format!("10.0.0.{n}:7000"),
            leases: 1,
            seen,
            cluster: None,
            memory: place.process.as_ref().map_or(0, |p| p.memory),
        };
        let message = Message::ToOrchestrator(ToOrchestrator::Join(request));
        self.send(link, Endpoint::Node(n), message);
    }

    /// What a node says to an edge whose link is new.
    fn tell_edge(&mut self, n: usize, link: usize) {
        let Some(p) = self.nodes[n].process.as_ref() else { return };
        let groups: Vec<_> = p.engine.gated_groups().collect();
        let flows = groups
            .iter()
            .flat_map(|(group, _)| p.engine.owned_slices(*group).map(|(_, flow)| FlowEntry { flow, group: *group }));
        let flows: Vec<_> = flows.collect();
        for request in [EdgeRequest::GateClosed { groups }, EdgeRequest::Flows(flows)] {
            self.send(link, Endpoint::Node(n), Message::ToEdge(request));
        }
    }

    fn peer_message(&mut self, n: usize, link: usize, message: PeerMessage) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        let Some(&from) = p.peers.get(&link) else { return };
        let event = match message {
            PeerMessage::Checkpoint(head, Body(bytes)) => {
                p.next_body += 1;
                p.vmm.bodies.insert(p.next_body, bytes);
                Event::Checkpoint { from, head, body: p.next_body }
            }
            PeerMessage::Ack(ack) => Event::Acked { from, ack },
            PeerMessage::Refusal(refusal) => Event::Refused { from, refusal },
            PeerMessage::Probe { group, epoch, nonce } => Event::Probe { from, group, epoch, nonce },
            PeerMessage::Quarantine { group, epoch, slice } => Event::PeerQuarantined { from, group, epoch, slice },
            PeerMessage::ProbeReply { group, epoch, nonce, standing_by } => {
                Event::ProbeReply { from, group, epoch, nonce, standing_by }
            }
        };
        self.feed(n, event);
    }

    fn orchestrator_message(&mut self, n: usize, message: FromOrchestrator) {
        let now = self.time_at(Endpoint::Node(n));
        let place = &mut self.nodes[n];
        let Some(p) = place.process.as_mut() else { return };
        match message {
            FromOrchestrator::Join(JoinReply::Joined { me, leases, claimed, moves, .. }) => {
                p.leases = leases;
                p.former = None;
                self.feed(n, Event::Joined { me, claimed, moves });
            }
            FromOrchestrator::Join(JoinReply::Refused { cause }) => self.oracle.note_refused(cause),
            FromOrchestrator::Records { revision, nodes, groups, leases, quarantine, moves, buckets } => {
                place.seen = place.seen.max(revision);
                for node in &nodes {
                    match node.state {
                        NodeState::Up if node.node() != NodeId(n as u16) => p.suspicion.watch(now, node.member),
                        _ => p.suspicion.forget(node.node()),
                    }
                }
                p.take_leases(leases);
                if let Some(b) = &buckets {
                    p.buckets.clone_from(b);
                }
                self.feed(n, Event::Records { nodes, groups, quarantine, moves, buckets });
            }
            FromOrchestrator::Outcome { attempt, group, outcome } => {
                self.feed(n, Event::Outcome { attempt, group, outcome });
            }
            FromOrchestrator::MoveOutcome { attempt, group, outcome } => {
                self.feed(n, Event::MoveOutcome { attempt, group, outcome });
            }
            FromOrchestrator::MoveAsked { .. } => {}
        }
    }
}
