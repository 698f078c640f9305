//! The cell, its clients, and time.

use crate::clients::Client;
use crate::clocks::Clocks;
use crate::control::{EdgeProcess, Fabric, OrchestratorProcess, Store};
use crate::fault_kind::FaultKind;
use crate::faults::Fault;
use crate::network::{Endpoint, Link, links};
use crate::node_process::{Local, NodeProcess};
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::service::{Reply, Request};
use escape_engine::edge::GroupSteering;
use escape_engine::{Micros, Mutant};
use escape_proto::{
    Beat, EdgeReply, EdgeRequest, FlowEntry, FromOrchestrator, Member, PeerMessage, Revision, ToOrchestrator,
};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What one run is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All chance comes from here.
    pub seed: u64,
    /// Steps of the safety phase: messages, packets and faults (not timers and heartbeats).
    pub steps: u64,
    /// Deliberate fault in the machines.
    pub broken: Option<Mutant>,
    /// Print every step.
    pub trace: bool,
}

/// What runs over a link.
#[derive(Clone, Debug)]
pub enum Message {
    /// The connection is up; between nodes, with this life of the other.
    Up(Option<Member>),
    /// Node ↔ node.
    Peer(PeerMessage),
    /// Node → orchestrator.
    ToOrchestrator(ToOrchestrator),
    /// Orchestrator → node, edge.
    FromOrchestrator(FromOrchestrator),
    /// Node → edge.
    ToEdge(EdgeRequest),
    /// Edge → node.
    FromEdge(EdgeReply),
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A message arrives.
    Arrive { link: usize, session: u64, side: usize, message: Message },
    /// A process notices that a connection is gone.
    Gone { link: usize, session: u64, side: usize },
    /// A connection is tried.
    Connect { link: usize },
    /// A connection with a blocked side times out.
    TimeOut { link: usize, session: u64 },
    /// A heartbeat arrives.
    Beat { to: Endpoint, beat: Beat },
    /// Something inside a node.
    Local { node: usize, life: u64, what: Local },
    /// The orchestrator's timer, first: it reads the store.
    OrchestratorTick { life: u64, first: bool },
    /// The store has carried out a transaction.
    Stored { life: u64, id: u64 },
    /// The edge's timer.
    EdgeTick { life: u64 },
    /// The fabric has carried out an order.
    FabricDone { life: u64, groups: Vec<GroupSteering>, flows: Vec<FlowEntry> },
    /// A packet reaches a node.
    ToNode { node: usize, request: Request, mirrored: bool },
    /// A packet reaches a client.
    ToClient { client: usize, reply: Reply },
    /// A client's timer.
    ClientTimer { client: usize },
    /// A process goes on after a pause.
    Resume { process: Endpoint, life: u64 },
    /// A process starts.
    Start { process: Endpoint },
    /// A fault, or the end of one.
    Fault(Fault),
}

struct Scheduled {
    at: Micros,
    order: u64,
    /// In a box, because the queue moves its entries about.
    what: Box<Happening>,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A place for a node: what survives its process.
#[derive(Debug)]
pub struct NodePlace {
    /// Its host.
    pub host: String,
    /// The process, if it runs.
    pub process: Option<NodeProcess>,
    /// Persisted: the highest store revision seen.
    pub seen: Revision,
}

/// The whole cell.
pub struct World {
    /// The run.
    pub plan: Plan,
    /// Microseconds since the start.
    pub now: Micros,
    /// Chance.
    pub rng: Rng,
    /// Links.
    pub links: Vec<Link<Message>>,
    /// Nodes.
    pub nodes: Vec<NodePlace>,
    /// The orchestrator, if it runs.
    pub orchestrator: Option<OrchestratorProcess>,
    /// The edge daemon, if it runs.
    pub edge: Option<EdgeProcess>,
    /// The store.
    pub store: Store,
    /// The packet fabric (goes on without its daemon).
    pub fabric: Fabric,
    /// Clients.
    pub clients: Vec<Client>,
    /// Ports given to clients.
    pub next_port: u16,
    /// Judges.
    pub oracle: Oracle,
    /// Faults may happen.
    pub faults_on: bool,
    /// Full copies have a channel of their own in this run: what follows them may overtake them.
    pub bulk_channel: bool,
    /// A full copy is being sent.
    pub bulk_turn: bool,
    /// Steps so far.
    pub steps: u64,
    /// Hash over all steps: equal for equal seeds.
    pub hash: u64,
    /// Which lives of processes there were.
    pub last_life: u64,
    /// Sessions of links so far.
    pub last_session: u64,
    /// Chances per kind of fault in this run.
    pub fault_mix: [u64; FaultKind::COUNT],
    /// How often each kind was made.
    pub faults_made: [u64; FaultKind::COUNT],
    /// What each process takes for the time.
    pub clocks: Clocks,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
}

impl World {
    /// A cell of 3 or 4 nodes in which nothing has happened yet.
    pub fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let n = if rng.one_in(2) { 3 } else { 4 };
        let shared_host = n == 4 && rng.one_in(3);
        let host = |i: usize| if shared_host && i == 3 { "host0".to_owned() } else { format!("host{i}") };
        let nodes = (0..n).map(|i| NodePlace { host: host(i), process: None, seen: Revision(0) }).collect();
        let clocks = Clocks::new(n, &mut rng);
        let mut world = Self {
            plan,
            now: 1_000,
            rng,
            links: links(n),
            nodes,
            orchestrator: None,
            edge: None,
            store: Store::default(),
            fabric: Fabric::default(),
            clients: Vec::new(),
            next_port: 1_024,
            oracle: Oracle::default(),
            faults_on: false,
            bulk_channel: false,
            bulk_turn: false,
            steps: 0,
            hash: 0,
            last_life: 0,
            last_session: 0,
            fault_mix: [0; FaultKind::COUNT],
            faults_made: [0; FaultKind::COUNT],
            clocks,
            queue: BinaryHeap::new(),
            order: 0,
        };
        world.plan_start();
        world
    }

    fn plan_start(&mut self) {
        self.after(0, Happening::Start { process: Endpoint::Orchestrator });
        self.after(500, Happening::Start { process: Endpoint::Edge });
        for n in 0..self.nodes.len() {
            let delay = self.rng.range(1_000, 40_000);
            self.after(delay, Happening::Start { process: Endpoint::Node(n) });
        }
        for link in 0..self.links.len() {
            self.after(2_000, Happening::Connect { link });
        }
        for client in 0..self.rng.index(8) + 6 {
            self.clients.push(Client::default());
            let delay = self.rng.range(60_000, 200_000);
            self.after(delay, Happening::ClientTimer { client });
        }
        self.bulk_channel = self.rng.one_in(4);
        self.plan_faults();
    }

    /// Something will happen `delay` microseconds from now.
    pub fn after(&mut self, delay: u64, what: Happening) {
        self.at(self.now + delay, what);
    }

    /// Something will happen at a time.
    pub fn at(&mut self, at: Micros, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at, order: self.order, what: Box::new(what) }));
    }

    /// Lets one thing happen. `false`: nothing is left.
    pub fn step(&mut self) -> bool {
        let Some(Reverse(next)) = self.queue.pop() else { return false };
        self.now = next.at;
        self.hash = (self.hash.rotate_left(5) ^ next.at ^ next.order ^ self.rng.mark()).wrapping_mul(0x1000_0000_01b3);
        let what = *next.what;
        let timer = matches!(
            what,
            Happening::Local { what: Local::Tick | Local::Beat, .. }
                | Happening::Beat { .. }
                | Happening::OrchestratorTick { .. }
                | Happening::EdgeTick { .. }
                | Happening::ClientTimer { .. }
                | Happening::Connect { .. }
        );
        if !timer {
            self.steps += 1;
            self.tell(|| format!("{what:?}"));
        }
        self.dispatch(what);
        true
    }

    /// A line of the trace.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if self.plan.trace {
            println!("{:>10} {}", self.now, line());
        }
    }

    /// Lets a thing happen, or keeps it in the network or for a process that is paused.
    pub fn dispatch(&mut self, what: Happening) {
        if let Happening::Arrive { link, session, side, .. } = &what
            && self.links[*link].blocked[*side]
        {
            let l = &mut self.links[*link];
            if let (true, side, Happening::Arrive { message, .. }) = (l.session == *session, *side, what) {
                l.stuck[side].push_back(message);
            }
            return;
        }
        if let Some(process) = self.concerned(&what)
            && let Some(inbox) =
                self.inbox_if_paused(process, matches!(what, Happening::Local { what: Local::Beat, .. }))
        {
            return inbox.push_back(what);
        }
        self.perform(what);
    }

    /// Lets a thing happen.
    pub fn perform(&mut self, what: Happening) {
        match what {
            Happening::Arrive { link, session, side, message } => self.arrive(link, session, side, message),
            Happening::Gone { link, session, side } => self.gone(link, session, side),
            Happening::Connect { link } => self.connect(link),
            Happening::TimeOut { link, session } => self.time_out(link, session),
            Happening::Beat { to, beat } => self.beat_arrives(to, beat),
            Happening::Local { node, life, what } => self.local(node, life, what),
            Happening::OrchestratorTick { life, first } => self.orchestrator_tick(life, first),
            Happening::Stored { life, id } => self.stored(life, id),
            Happening::EdgeTick { life } => self.edge_tick(life),
            Happening::FabricDone { life, groups, flows } => self.fabric_done(life, groups, &flows),
            Happening::ToNode { node, request, mirrored } => self.packet_in(node, request, mirrored),
            Happening::ToClient { client, reply } => self.reply_arrives(client, reply),
            Happening::ClientTimer { client } => self.client_timer(client),
            Happening::Resume { process, life } => self.resume(process, life),
            Happening::Start { process } => self.start(process),
            Happening::Fault(fault) => self.fault(fault),
        }
    }

    /// The process that a thing happens to.
    fn concerned(&self, what: &Happening) -> Option<Endpoint> {
        match what {
            Happening::Arrive { link, side, .. } | Happening::Gone { link, side, .. } => {
                Some(self.links[*link].ends[*side])
            }
            Happening::Beat { to, .. } => Some(*to),
            Happening::Local { node, .. } | Happening::ToNode { node, .. } => Some(Endpoint::Node(*node)),
            Happening::OrchestratorTick { .. } | Happening::Stored { .. } => Some(Endpoint::Orchestrator),
            Happening::EdgeTick { .. } | Happening::FabricDone { .. } => Some(Endpoint::Edge),
            _ => None,
        }
    }

    /// A process starts, if it does not run.
    fn start(&mut self, process: Endpoint) {
        self.last_life += 1;
        match process {
            Endpoint::Node(n) => self.start_node(n),
            Endpoint::Orchestrator => self.start_orchestrator(),
            Endpoint::Edge => self.start_edge(),
        }
    }
}
