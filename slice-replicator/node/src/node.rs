//! One node: everything that its data thread owns.

use crate::activation::Activations;
use crate::bulk_budget::BulkBudget;
use crate::clock::now_us;
use crate::commits::Commits;
use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::groups::Groups;
use crate::guest_image::CellImage;
use crate::guest_waker::GuestWaker;
use crate::guest_watch::GuestWatch;
use crate::heartbeat::{Heartbeat, HeartbeatConfig};
use crate::metrics::NodeMetrics;
use crate::neighbours::Neighbours;
use crate::peers::Peers;
use crate::rx_backlog::RxBacklog;
use crate::sabotage::Sabotage;
use crate::slice_table::SliceTable;
use crate::stages::Stages;
use crate::stale_slices::StaleSlices;
use crate::tokens;
use crate::upstream::Upstream;
use crate::wire_ratios::WireRatios;
use escape_engine::node::{Command, NodeConfig as EngineConfig, NodeEngine};
use escape_engine::{Mutant, SuspicionConfig};
use escape_fabric::fabric::PlaceBy;
use escape_link::{Identity, Listener, ListenerLimits, RoleSet};
use escape_metrics::MetricsServer;
use escape_proto::{FlowEntry, GroupId, Incarnation, LeaseRecord, LeaseSet, Member, NodeId, Revision, Role};
use escape_vmm::commit::capture::CaptureLimits;
use escape_vmm::commit::ingress::IngressStore;
use escape_vmm::commit::page_set::PageSet;
use escape_vmm::commit::protected_ports::ProtectedPorts;
use escape_vmm::commit::tombstone::Tombstones;
use escape_vmm::commit::valve::Valve;
use escape_vmm::commit::valve_config::{BreachPolicy, Mode, Rule, ValveConfig};
use escape_vmm::commit::{Capturer, ImageStore};
use escape_vmm::{FrameBuf, Vm};
use mio::unix::SourceFd;
use mio::{Interest, Poll};
use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// The data thread's state. Its methods are in the modules named after the step that they carry out.
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) identity: Identity,
    pub(crate) broken: Option<Mutant>,
    pub(crate) poll: Poll,

    // The VM and the commit path.
    pub(crate) vm: Vm,
    pub(crate) valve: Valve,
    pub(crate) images: ImageStore,
    pub(crate) capturer: Capturer,
    pub(crate) ingress: IngressStore,
    pub(crate) tombstones: Tombstones,
    /// Taken out while a frame is handled.
    pub(crate) frame: Option<FrameBuf>,
    /// The mirror's own: a gate may open, and the mirror be emptied for it, while another frame is handled.
    pub(crate) mirror_frame: Option<FrameBuf>,
    /// What the last turn left because others had to have theirs: descriptors are edge-triggered.
    pub(crate) unfinished: Unfinished,
    /// The body that has arrived and that the engine has neither applied nor dropped yet.
    pub(crate) open_body: Option<u64>,
    /// The wire form of the checkpoint captured last.
    pub(crate) wire: Vec<u8>,

    // Decisions.
    pub(crate) engine: NodeEngine,
    pub(crate) commands: Vec<Command>,

    // What this node knows of its slices.
    pub(crate) me: Option<Member>,
    pub(crate) slices: SliceTable,
    pub(crate) groups: Groups,
    pub(crate) commits: Commits,
    pub(crate) activations: Activations,
    pub(crate) leases: Vec<LeaseRecord>,
    /// Own leases that no guest allocates from any more, until the store has taken them back.
    pub(crate) spent_leases: LeaseSet,
    pub(crate) leases_told_at: u64,
    /// Bodies of checkpoints that wait for a record; the engine bounds their number.
    pub(crate) bodies: HashMap<u64, Vec<u8>>,
    pub(crate) next_body: u64,
    pub(crate) sabotage: Sabotage,
    /// The link's share for full copies.
    pub(crate) bulk: BulkBudget,
    /// Arena pages that are to be made present, by slot. Each page of an image is here once at most.
    pub(crate) to_prefault: VecDeque<(u32, PageSet)>,
    /// The peer's frame at hand.
    pub(crate) inbox: Vec<u8>,
    /// Slices whose state changed without output, with the time by which to capture them. Each slice once.
    pub(crate) stale: StaleSlices,
    /// When the mirror was looked at last.
    pub(crate) mirror_read_at: u64,
    /// Frames for a guest without receive buffers.
    pub(crate) rx_backlog: RxBacklog,
    /// Flips to ask for at the end of this turn.
    pub(crate) flips: Vec<(GroupId, escape_proto::Epoch)>,
    /// Flows that began since the edge was last told: it keeps those that their owner confirms.
    pub(crate) new_flows: Vec<FlowEntry>,
    /// Flows that ended since the edge was last told.
    pub(crate) ended_flows: Vec<escape_proto::Flow>,
    /// Flows of slices that were given up, and when the edge may forget them.
    pub(crate) given_up_flows: VecDeque<(u64, escape_proto::Flow)>,
    /// Mutant "acknowledge before apply": bodies whose application is put off.
    pub(crate) put_off: VecDeque<(u64, escape_proto::CheckpointHead, Vec<u8>)>,

    // Links.
    pub(crate) listener: Listener,
    pub(crate) peers: Peers,
    pub(crate) orchestrator: Upstream,
    pub(crate) edge: Upstream,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) guest_watch: GuestWatch,
    /// What tells a Linux guest of its messages.
    pub(crate) waker: Option<GuestWaker>,
    /// Who a Linux guest's clients are on the Ethernet.
    pub(crate) neighbours: Option<Neighbours>,
    pub(crate) guest_running: bool,
    /// The store says that this life is over; what follows is done as soon as the engine's commands are.
    pub(crate) life_is_over: bool,
    /// The process itself must start over.
    pub(crate) wants_restart: bool,
    /// Name of what this process remembers, for the store: another process, even of the same node, has another.
    pub(crate) memory: u64,
    /// Highest revision of the store seen.
    pub(crate) seen: Revision,
    pub(crate) stopping: bool,
    pub(crate) cluster: [u8; 16],
    pub(crate) digest: [u8; 32],
    pub(crate) guest_cause: String,
    /// Times that the guest was started again.
    pub(crate) boots: u32,
    pub(crate) counts_at: u64,
    pub(crate) suspects_told: u32,
    pub(crate) operator_line: Vec<u8>,
    pub(crate) metrics: NodeMetrics,
    pub(crate) metrics_server: Option<MetricsServer>,
    pub(crate) stages: Stages,
    pub(crate) wire_ratios: WireRatios,
}

/// Sources that still have something although no event will say so again.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    pub(crate) tap: bool,
    pub(crate) mirror: bool,
    pub(crate) output: bool,
    pub(crate) stock: bool,
    pub(crate) peers: std::collections::BTreeSet<(u16, u8)>,
}

impl Unfinished {
    pub(crate) fn any(&self) -> bool {
        self.tap || self.mirror || self.output || self.stock || !self.peers.is_empty()
    }
}

impl Node {
    /// Builds the VM (not started), binds the sockets and starts the heartbeat thread.
    ///
    /// # Errors
    /// [`NodeError`] says what is missing.
    pub fn new(config: NodeConfig) -> Result<Self, NodeError> {
        let identity = config.secrets.identity()?;
        let broken = parse_broken(&config)?;
        if !config.replication {
            tracing::warn!("replication is off: a failure of this node loses its sessions");
        }
        let poll = Poll::new().map_err(NodeError::os("epoll"))?;
        let image = CellImage::read(&config)?;
        let digest = image.digest;
        let waker = config.linux.as_ref().and_then(|linux| linux.vsock.as_ref()).map(GuestWaker::listen).transpose()?;
        let vm = Vm::new(image.machine(config.n_slots, &config.tap, config.mirror.as_ref())?)?;
        let service_ip = config.service.ip.octets();
        let ports = ProtectedPorts::new(&[config.service.http_port, config.service.stream_port])
            .ok_or_else(|| NodeError::Config("too many protected ports".into()))?;
        let valve = Valve::new(ValveConfig {
            n_slots: config.n_slots,
            service_ip,
            protected_ports: ports.clone(),
            unprotected_output: false,
            mode: if config.replication { Mode::Protect } else { Mode::PassThrough },
            limits: config.quotas.hold_limits(),
            rule: if config.linux.is_some() { Rule::Numbers } else { Rule::Generation },
            on_breach: BreachPolicy::Quarantine,
        });
        let images = ImageStore::new(config.n_slots).map_err(|e| NodeError::Config(e.to_string()))?;
        let me = NodeId(config.id);
        let peers = Peers::new(me, identity.clone());
        let listener = Listener::bind(
            config.listen,
            &identity,
            peers.hello(0, Incarnation(0)),
            RoleSet::NODES,
            ListenerLimits::default(),
            Instant::now(),
        )
        .map_err(|e| NodeError::Listen { address: e.addr, source: e.source })?;
        let heartbeat = Heartbeat::start(heartbeat_config(&config))?;
        let engine = NodeEngine::new(EngineConfig {
            pause_limit_us: config.timing.pause_limit_ms * 1000,
            broken,
            ..EngineConfig::new(me, config.host.clone())
        });
        Ok(Self {
            identity,
            broken,
            poll,
            vm,
            valve,
            images,
            capturer: Capturer::new(CaptureLimits::default()),
            ingress: IngressStore::new(service_ip, ports, config.quotas.ingress_limits()),
            tombstones: Tombstones::new(config.service.mac),
            frame: Some(FrameBuf::new()),
            mirror_frame: Some(FrameBuf::new()),
            unfinished: Unfinished::default(),
            open_body: None,
            wire: Vec::new(),
            engine,
            commands: Vec::with_capacity(64),
            me: None,
            slices: SliceTable::new(config.n_slots, config.service.slice_per_client),
            groups: Groups::new(place_by(&config)),
            commits: Commits::new(config.n_slots),
            activations: Activations::default(),
            leases: Vec::new(),
            spent_leases: LeaseSet::default(),
            leases_told_at: 0,
            bodies: HashMap::new(),
            next_body: 0,
            sabotage: Sabotage::default(),
            bulk: BulkBudget::new(config.quotas.link_mbit, config.quotas.bulk_percent),
            to_prefault: VecDeque::new(),
            inbox: Vec::new(),
            stale: StaleSlices::new(config.n_slots),
            mirror_read_at: 0,
            rx_backlog: RxBacklog::default(),
            flips: Vec::new(),
            new_flows: Vec::new(),
            ended_flows: Vec::new(),
            given_up_flows: VecDeque::new(),
            put_off: VecDeque::new(),
            listener,
            peers,
            orchestrator: Upstream::new(Role::Orchestrator, config.orchestrator, tokens::ORCHESTRATOR),
            edge: Upstream::new(Role::Edge, config.edge, tokens::EDGE),
            heartbeat,
            guest_watch: GuestWatch::new(config.timing.guest_timeout_ms * 1000, config.timing.guest_boot_ms * 1000),
            waker,
            neighbours: config.linux.as_ref().map(|_| Neighbours::default()),
            guest_running: false,
            life_is_over: false,
            wants_restart: false,
            // 0 would say "none".
            memory: u64::from_le_bytes(escape_link::pki::random()?).max(1),
            seen: Revision(0),
            stopping: false,
            cluster: [0; 16],
            digest,
            guest_cause: String::new(),
            boots: 0,
            counts_at: 0,
            suspects_told: 0,
            operator_line: Vec::new(),
            metrics: NodeMetrics::default(),
            metrics_server: config.metrics.map(MetricsServer::start).transpose()?,
            stages: Stages::default(),
            wire_ratios: WireRatios::default(),
            config,
        })
    }

    /// Registers everything that the data thread waits for.
    pub(crate) fn register(&mut self) -> Result<(), NodeError> {
        let registry = self.poll.registry();
        let vm = self.vm.fds();
        let fds: [(Option<RawFd>, mio::Token); 7] = [
            (vm.wake, tokens::WAKE),
            (Some(vm.tx_kick), tokens::TX_KICK),
            (Some(vm.doorbell), tokens::DOORBELL),
            (Some(vm.exit), tokens::GUEST_EXIT),
            (Some(vm.rng_kick), tokens::RNG_KICK),
            (Some(vm.rx_kick), tokens::RX_KICK),
            (vm.tap, tokens::TAP),
        ];
        for (fd, token) in fds {
            if let Some(fd) = fd {
                registry
                    .register(&mut SourceFd(&fd), token, Interest::READABLE)
                    .map_err(NodeError::os("register a descriptor of the VM"))?;
            }
        }
        for fd in self.vm.stock().fds() {
            registry
                .register(&mut SourceFd(&fd), tokens::STOCK, Interest::READABLE)
                .map_err(NodeError::os("register a device of the guest"))?;
        }
        if let Some(waker) = &mut self.waker {
            waker.register(registry, tokens::WAKER).map_err(NodeError::os("register the guest's waker"))?;
        }
        self.listener.register(registry, tokens::LISTENER).map_err(NodeError::os("register the listener"))
    }

    /// The clock of this thread.
    pub(crate) fn now(&self) -> u64 {
        now_us()
    }
}

fn parse_broken(config: &NodeConfig) -> Result<Option<Mutant>, NodeError> {
    let broken: Option<Mutant> =
        config.broken.as_deref().map(str::parse).transpose().map_err(|e| NodeError::Config(format!("{e}")))?;
    if let Some(mutant) = broken {
        tracing::error!(%mutant, "THIS NODE IS BROKEN ON PURPOSE: never use it for anything but a drill");
    }
    Ok(broken)
}

/// New connections of a client come to the group of its slice.
const fn place_by(config: &NodeConfig) -> PlaceBy {
    if config.service.slice_per_client { PlaceBy::Client } else { PlaceBy::Flow }
}

fn heartbeat_config(config: &NodeConfig) -> HeartbeatConfig {
    let timing = &config.timing;
    HeartbeatConfig {
        me: NodeId(config.id),
        listen: config.beat_listen,
        to: config.beats_to.clone(),
        key: config.secrets.heartbeat_key.0,
        every: Duration::from_millis(timing.heartbeat_ms),
        suspicion: SuspicionConfig {
            suspect_after_us: timing.suspect_after_ms * 1000,
            progress_timeout_us: timing.progress_timeout_ms * 1000,
            ..SuspicionConfig::default()
        },
    }
}
