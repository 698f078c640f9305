//! The orchestrator's process, the store, the edge's process and the fabric.

use crate::network::Endpoint;
use crate::oracle::GroupsBefore;
use crate::service::bucket;
use crate::world::{Happening, Message, World};
use escape_engine::Mutant;
use escape_engine::edge::{EdgeCommand, EdgeConfig, EdgeEvent, EdgeMachine, GroupSteering};
use escape_engine::orchestrator::{
    LinkId, Note, Orchestrator, OrchestratorCommand, OrchestratorConfig, OrchestratorEvent, Peer, Receiver, TxnFailure,
};
use escape_engine::store::{Conflict, Record, StoreState, Txn};
use escape_proto::{
    Beat, BucketTable, Flow, FlowEntry, FromOrchestrator, GroupId, JoinReply, Member, NodeId, ToOrchestrator,
};
use std::collections::{BTreeMap, VecDeque};

/// How long a group without a living copy is kept for a claim.
pub const CLAIM_US: u64 = 250_000;

/// The orchestrator's process.
#[derive(Debug)]
pub struct OrchestratorProcess {
    /// Which process.
    pub life: u64,
    /// The machine under test.
    pub machine: Orchestrator,
    /// Stopped.
    pub paused: bool,
    /// What waits meanwhile.
    pub inbox: VecDeque<Happening>,
    /// Links and the members at their other end.
    pub members: BTreeMap<usize, Option<Member>>,
    edge_link: Option<usize>,
    txns: BTreeMap<u64, Txn>,
}

/// The edge's process.
#[derive(Debug)]
pub struct EdgeProcess {
    /// Which process.
    pub life: u64,
    /// The machine under test.
    pub machine: EdgeMachine,
    /// Links and the members at their other end.
    pub members: BTreeMap<usize, Member>,
}

/// The store: what is durable.
#[derive(Debug, Default)]
pub struct Store {
    /// Contents.
    pub state: StoreState,
    /// It does not answer.
    pub down: bool,
    /// Older contents, for the fault of forgetting.
    history: VecDeque<StoreState>,
}

/// The packet fabric. Refuses older epochs; goes on while its daemon is down.
#[derive(Debug, Default)]
pub struct Fabric {
    /// Steering per group.
    pub groups: BTreeMap<GroupId, GroupSteering>,
    /// Bound flows.
    pub bound: BTreeMap<Flow, GroupId>,
    /// Placement of the others.
    pub buckets: BucketTable,
}

impl Fabric {
    /// Who gets a flow's packets.
    pub fn steering(&self, flow: Flow) -> Option<GroupSteering> {
        let group = self.bound.get(&flow).copied().or_else(|| self.buckets.group(bucket(flow)))?;
        self.groups.get(&group).copied()
    }
}

impl Store {
    /// Carries out a transaction.
    fn apply(&mut self, txn: &Txn, keep_history: bool) -> Result<escape_engine::store::Changes, Conflict> {
        if keep_history {
            self.history.push_back(self.state.clone());
            if self.history.len() > 4 {
                self.history.pop_front();
            }
        }
        self.state.apply(txn)
    }
}

impl World {
    /// Starts the orchestrator's process; it reads the store first.
    pub fn start_orchestrator(&mut self) {
        if self.orchestrator.is_some() {
            return;
        }
        if self.plan.broken == Some(Mutant::EpochReused)
            && let Some(old) = self.store.history.pop_front()
        {
            self.store.state = old;
            self.store.history.clear();
        }
        let config = OrchestratorConfig {
            new_cluster: [7; 16],
            groups_per_node: 3,
            double_fault_after_us: 100_000,
            claim_us: CLAIM_US,
            leases_max: 48,
            txn_resend_us: 20_000,
            broken: self.plan.broken,
            ..OrchestratorConfig::default()
        };
        let life = self.last_life;
        self.orchestrator = Some(OrchestratorProcess {
            life,
            machine: Orchestrator::new(config),
            paused: false,
            inbox: VecDeque::new(),
            members: BTreeMap::new(),
            edge_link: None,
            txns: BTreeMap::new(),
        });
        self.after(500, Happening::OrchestratorTick { life, first: true });
    }

    /// Ends it.
    pub fn crash_orchestrator(&mut self) {
        if self.orchestrator.take().is_some() {
            self.cut_all(Endpoint::Orchestrator);
        }
    }

    /// All links of a process that ended.
    fn cut_all(&mut self, end: Endpoint) {
        for link in 0..self.links.len() {
            if let Some(side) = self.links[link].side(end) {
                self.reset(link);
                self.links[link].told_up[side] = 0;
                self.links[link].rest.1[side] = 0;
            }
        }
    }

    fn tell_orchestrator(&mut self, event: OrchestratorEvent) {
        let now = self.time_at(Endpoint::Orchestrator);
        let Some(o) = self.orchestrator.as_mut() else { return };
        let mut out = Vec::new();
        o.machine.on(now, event, &mut out);
        for command in out {
            self.tell(|| format!("  orchestrator: {}", brief(&command)));
            self.orchestrator_command(command);
        }
    }

    fn orchestrator_command(&mut self, command: OrchestratorCommand) {
        match command {
            OrchestratorCommand::Txn { id, txn } => {
                let delay = if self.store.down { 5_000 } else { self.rng.range(150, 2_500) };
                let Some(o) = self.orchestrator.as_mut() else { return };
                o.txns.insert(id, txn);
                let life = o.life;
                self.after(delay, Happening::Stored { life, id });
            }
            OrchestratorCommand::Send { to, message } => self.orchestrator_sends(to, message),
            OrchestratorCommand::Note(Note::Lost { .. } | Note::Dead { .. }) => self.oracle.failovers += 1,
            OrchestratorCommand::Note(Note::Claimed { .. }) => self.oracle.claims += 1,
            OrchestratorCommand::Note(Note::Moved { slices, .. }) => self.oracle.moved += slices as u64,
            OrchestratorCommand::Note(_) => {}
        }
    }

    fn orchestrator_sends(&mut self, to: Receiver, message: FromOrchestrator) {
        let Some(o) = self.orchestrator.as_mut() else { return };
        let links: Vec<usize> = match to {
            Receiver::Link(LinkId(session)) => {
                let link = self.links.iter().position(|l| l.session == session);
                if let (FromOrchestrator::Join(JoinReply::Joined { me, .. }), Some(link)) = (&message, link) {
                    o.members.insert(link, Some(*me));
                }
                link.into_iter().collect()
            }
            Receiver::Node(m) => o.members.iter().filter(|(_, x)| **x == Some(m)).map(|(l, _)| *l).collect(),
            Receiver::AllNodes => o.members.iter().filter(|(_, x)| x.is_some()).map(|(l, _)| *l).collect(),
            Receiver::Edge => o.edge_link.into_iter().collect(),
        };
        for link in links {
            self.send(link, Endpoint::Orchestrator, Message::FromOrchestrator(message.clone()));
        }
    }

    /// The orchestrator's timer.
    pub fn orchestrator_tick(&mut self, life: u64, first: bool) {
        if self.orchestrator.as_ref().is_none_or(|o| o.life != life) {
            return;
        }
        if first {
            let image = Box::new(self.store.state.clone());
            self.tell_orchestrator(OrchestratorEvent::Started { image });
        }
        self.tell_orchestrator(OrchestratorEvent::Tick);
        self.after(2_000, Happening::OrchestratorTick { life, first: false });
    }

    /// The store has, or has not, carried out a transaction.
    pub fn stored(&mut self, life: u64, id: u64) {
        let unsure = self.store.down && self.rng.one_in(2);
        let Some(txn) = self.orchestrator.as_mut().filter(|o| o.life == life).and_then(|o| o.txns.remove(&id)) else {
            return;
        };
        let mut result = Err(TxnFailure::Unavailable { cause: "down".to_owned() });
        if !self.store.down || unsure {
            let changed = txn.put.iter().filter_map(|record| match record {
                Record::Group(new) => self.store.state.group(new.group).copied(),
                _ => None,
            });
            let before: GroupsBefore = changed.map(|old| (old.group, old)).collect();
            let forgets = self.plan.broken == Some(Mutant::EpochReused);
            let applied = self.store.apply(&txn, forgets);
            if let Ok(changes) = &applied {
                self.oracle.judge_store(&before, &self.store.state, changes);
                self.judge_lost(&before, changes);
                self.judge_freed(changes);
            }
            if !self.store.down {
                let now = || TxnFailure::Conflict { now: Box::new(self.store.state.clone()) };
                result = applied.map_err(|_| now());
            }
        }
        self.tell_orchestrator(OrchestratorEvent::TxnDone { id, result });
    }

    /// A message for the orchestrator.
    pub fn orchestrator_receives(&mut self, from: Endpoint, link: usize, message: Message) {
        let session = self.links[link].session;
        let Some(o) = self.orchestrator.as_mut() else { return };
        match (message, from) {
            (Message::Up(member), Endpoint::Node(_)) => {
                o.members.insert(link, member);
                if let Some(member) = member {
                    self.tell_orchestrator(OrchestratorEvent::LinkUp(Peer::Node(member)));
                }
            }
            (Message::Up(_), _) => {
                o.edge_link = Some(link);
                self.tell_orchestrator(OrchestratorEvent::LinkUp(Peer::Edge));
            }
            (Message::ToOrchestrator(ToOrchestrator::Join(request)), Endpoint::Node(n)) => {
                let (link, node) = (LinkId(session), NodeId(n as u16));
                self.tell_orchestrator(OrchestratorEvent::Join { link, node, request });
            }
            (Message::ToOrchestrator(request), _) => {
                if let Some(from) = o.members.get(&link).copied().flatten() {
                    self.tell_orchestrator(OrchestratorEvent::Request { from, request });
                }
            }
            _ => {}
        }
    }

    /// The orchestrator has lost a connection.
    pub fn orchestrator_loses(&mut self, from: Endpoint, link: usize) {
        let Some(o) = self.orchestrator.as_mut() else { return };
        let member = o.members.remove(&link).flatten();
        let peer = match from {
            Endpoint::Edge => {
                o.edge_link = None;
                Some(Peer::Edge)
            }
            _ => member.map(Peer::Node),
        };
        if let Some(peer) = peer {
            self.tell_orchestrator(OrchestratorEvent::LinkDown(peer));
        }
    }

    /// A heartbeat for the orchestrator.
    pub fn orchestrator_beat(&mut self, beat: Beat) {
        self.tell_orchestrator(OrchestratorEvent::Beat(beat));
    }

    /// Starts the edge daemon.
    pub fn start_edge(&mut self) {
        if self.edge.is_none() {
            let life = self.last_life;
            let machine = EdgeMachine::new(EdgeConfig { broken: self.plan.broken, ..EdgeConfig::default() });
            self.edge = Some(EdgeProcess { life, machine, members: BTreeMap::new() });
            self.after(5_000, Happening::EdgeTick { life });
        }
    }

    /// Ends it; the fabric goes on as it is.
    pub fn crash_edge(&mut self) {
        if self.edge.take().is_some() {
            self.cut_all(Endpoint::Edge);
        }
    }

    fn tell_edge_machine(&mut self, event: EdgeEvent) {
        let now = self.time_at(Endpoint::Edge);
        let Some(e) = self.edge.as_mut() else { return };
        let life = e.life;
        let mut out = Vec::new();
        e.machine.on(now, event, &mut out);
        for command in out {
            self.tell(|| format!("  edge: {}", brief(&command)));
            self.edge_command(life, command);
        }
    }

    fn edge_command(&mut self, life: u64, command: EdgeCommand) {
        match command {
            EdgeCommand::Steer { groups, flows } => {
                let delay = self.rng.range(50, 800);
                self.after(delay, Happening::FabricDone { life, groups, flows });
            }
            EdgeCommand::Bind { group, flows } => {
                self.fabric.bound.extend(flows.into_iter().map(|f| (f, group)));
            }
            EdgeCommand::Unbind { flows } => {
                for flow in flows {
                    self.fabric.bound.remove(&flow);
                }
            }
            EdgeCommand::Place { buckets } => self.fabric.buckets = buckets,
            EdgeCommand::Reply { to, reply } => {
                let link = self.edge.as_ref().and_then(|e| e.members.iter().find(|(_, m)| **m == to).map(|(l, _)| *l));
                if let Some(link) = link {
                    self.send(link, Endpoint::Edge, Message::FromEdge(reply));
                }
            }
        }
    }

    /// The fabric carries out an order, or fails.
    pub fn fabric_done(&mut self, life: u64, groups: Vec<GroupSteering>, flows: &[FlowEntry]) {
        if self.edge.as_ref().is_none_or(|e| e.life != life) {
            return;
        }
        if self.faults_on && self.rng.one_in(30) {
            return self.tell_edge_machine(EdgeEvent::SteerFailed { groups });
        }
        self.fabric.bound.extend(flows.iter().map(|entry| (entry.flow, entry.group)));
        for steering in &groups {
            if self.fabric.groups.get(&steering.group).is_none_or(|s| s.epoch < steering.epoch) {
                self.judge_flip(*steering);
                self.fabric.groups.insert(steering.group, *steering);
            }
        }
        self.tell_edge_machine(EdgeEvent::Steered { groups });
    }

    /// The edge's timer.
    pub fn edge_tick(&mut self, life: u64) {
        if self.edge.as_ref().is_some_and(|e| e.life == life) {
            self.tell_edge_machine(EdgeEvent::Tick);
            self.after(10_000, Happening::EdgeTick { life });
        }
    }

    /// A message for the edge.
    pub fn edge_receives(&mut self, link: usize, message: Message) {
        let Some(e) = self.edge.as_mut() else { return };
        match message {
            Message::Up(Some(member)) => {
                e.members.insert(link, member);
            }
            Message::ToEdge(request) => {
                if let Some(from) = e.members.get(&link).copied() {
                    self.tell_edge_machine(EdgeEvent::Request { from, request });
                }
            }
            Message::FromOrchestrator(FromOrchestrator::Records { nodes, groups, buckets, .. }) => {
                self.tell_edge_machine(EdgeEvent::Records { nodes, groups, buckets });
            }
            _ => {}
        }
    }

    /// The edge has lost a connection.
    pub fn edge_loses(&mut self, link: usize) {
        if let Some(e) = self.edge.as_mut() {
            e.members.remove(&link);
        }
    }
}

/// A command for the trace, without the bucket table.
fn brief(command: &impl std::fmt::Debug) -> String {
    let mut text = format!("{command:?}");
    if let Some((at, _)) = text.char_indices().nth(1_500) {
        text.truncate(at);
    }
    text
}
