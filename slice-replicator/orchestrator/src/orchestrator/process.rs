//! The orchestrator's loop.
//!
//! A turn: heartbeats first (they are what is judged), then links, outcomes of the store and questions, then a tick,
//! then everything that was staged goes out.

use super::beat_socket::BeatSocket;
use super::config::OrchestratorProcessConfig;
use super::end_point::{EndPoint, tells_a_death};
use super::figures::Figures;
use super::milestones::event_of;
use super::node_link::NodeLink;
use super::store_thread::StoreThread;
use super::wishes::Wishes;
use crate::error::ProcessError;
use crate::event_log::{EventLog, ProcessEvent};
use crate::link_table::LinkTable;
use crate::operator_input::OperatorInput;
use crate::os::{now_us, real_time};
use crate::stop_signal::StopSignal;
use escape_engine::Mutant;
use escape_engine::orchestrator::{Note, Orchestrator, OrchestratorCommand, OrchestratorConfig, OrchestratorEvent};
use escape_engine::store::Record;
use escape_link::{Identity, Listener, ListenerLimits, RoleSet};
use escape_metrics::MetricsServer;
use escape_proto::{Hello, Incarnation, PROTOCOL_VERSION, Role};
use escape_store::EmbeddedStore;
use mio::{Events, Poll, Token, Waker};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const STOP: Token = Token(0);
const WAKE: Token = Token(1);
const BEATS: Token = Token(2);
/// Links of nodes and edge; the listener's tokens lie behind them.
const FIRST_LINK: usize = 16;
/// 16 nodes, each perhaps with a link of its former life, and edges.
pub(super) const LINKS_MAX: usize = 64;
const LISTENER: Token = Token(FIRST_LINK + LINKS_MAX);
/// Longest sleep: the machine wants a tick every 2 ms.
const TICK: Duration = Duration::from_millis(1);
/// Between two readings for whoever asks for metrics.
const METRICS_EVERY: Duration = Duration::from_millis(250);
/// Slots of a lease.
const LEASE_SLOTS: u32 = 64;

/// Runs the orchestrator until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting, or ended it.
pub fn run_orchestrator(config: OrchestratorProcessConfig) -> Result<(), ProcessError> {
    let mut process = OrchestratorProcess::start(config)?;
    process.answer_questions()?;
    while process.turn()? {}
    Ok(())
}

/// The orchestrator with its sockets and threads; [`run_orchestrator`] turns it until it is asked to stop.
pub struct OrchestratorProcess {
    pub(super) poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    _stop: StopSignal,
    pub(super) listener: Listener,
    hello: Hello,
    pub(super) links: LinkTable<NodeLink>,
    pub(super) last_link: u64,
    pub(super) wishes: Wishes,
    pub(super) beats: BeatSocket,
    pub(super) store: StoreThread,
    questions: Option<OperatorInput>,
    pub(super) log: EventLog,
    pub(super) machine: Orchestrator,
    commands: Vec<OrchestratorCommand>,
    pub(super) figures: Figures,
    metrics: Option<MetricsServer>,
    told: Instant,
    ticked: Instant,
    /// Something was left undone in this turn: do not sleep.
    pub(super) more: bool,
    stopping: bool,
    /// Where a drill wants this process to end as if it were killed.
    end_at: Option<EndPoint>,
}

/// Exit code of a process that ended itself because a drill wanted it.
const ENDED_FOR_A_DRILL: i32 = 70;

impl OrchestratorProcess {
    /// Opens the store, binds the addresses and starts the threads.
    ///
    /// # Errors
    /// What kept it from starting.
    pub fn start(config: OrchestratorProcessConfig) -> Result<Self, ProcessError> {
        let identity = config.secrets.identity()?;
        if identity.role() != Role::Orchestrator {
            let found = escape_link::pki::role_label(identity.role());
            return Err(ProcessError::WrongSecrets { found, wanted: "orchestrator" });
        }
        let file = config.store.open_to_read_and_write()?;
        let store = EmbeddedStore::from_file(file, config.store.name(), None)?;
        let image = store.state().clone();
        let cluster = image.cluster().map_or([0; 16], |record| record.cluster);
        if image.cluster().is_some_and(|record| record.placement_seed != config.secrets.placement_seed) {
            return Err(ProcessError::OtherSeed { store: config.store.name() });
        }
        let machine = Orchestrator::new(machine_config(&config)?);

        let poll = Poll::new().map_err(ProcessError::system("epoll"))?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(ProcessError::system("eventfd"))?);
        let stop = StopSignal::register(poll.registry(), STOP)?;
        let mut beats = BeatSocket::bind(config.beat_listen, config.secrets.heartbeat_key.0)?;
        beats.register(poll.registry(), BEATS)?;
        let hello = hello(cluster);
        let listener = listen(&config, &identity, &hello, &poll)?;
        let mut log = EventLog::start(config.events.as_ref())?;
        log.write(ProcessEvent::started(now_us()));
        let store = StoreThread::start(store, Arc::clone(&waker))?;
        // Before this thread gets its priority, which the new one would inherit.
        let metrics = config.metrics.map(MetricsServer::start).transpose()?;
        if config.real_time {
            real_time("orchestrator");
        }
        let mut process = Self {
            poll,
            events: Events::with_capacity(256),
            waker,
            _stop: stop,
            listener,
            hello,
            links: LinkTable::new(FIRST_LINK, LINKS_MAX),
            last_link: 0,
            wishes: Wishes::default(),
            beats,
            store,
            questions: None,
            log,
            machine,
            commands: Vec::new(),
            figures: Figures::new(now_us()),
            metrics,
            told: Instant::now(),
            ticked: Instant::now(),
            more: false,
            stopping: false,
            end_at: None,
        };
        process.machine_event(OrchestratorEvent::Started { image: Box::new(image) });
        Ok(process)
    }

    /// Where nodes and the edge connect.
    pub const fn link_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Where metrics are told.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(MetricsServer::local_addr)
    }

    /// Where heartbeats arrive.
    ///
    /// # Errors
    /// What the system says.
    pub fn beat_addr(&self) -> Result<SocketAddr, ProcessError> {
        self.beats.local_addr()
    }

    /// Answers questions on standard input from now on: `status`, `stop`.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn answer_questions(&mut self) -> Result<(), ProcessError> {
        self.questions = Some(OperatorInput::start(Arc::clone(&self.waker))?);
        Ok(())
    }

    /// One turn, of a millisecond at most. False: it was asked to stop.
    ///
    /// # Errors
    /// The poll failed; nothing else ends the process.
    pub fn turn(&mut self) -> Result<bool, ProcessError> {
        let sleep = if std::mem::take(&mut self.more) { Duration::ZERO } else { TICK };
        match self.poll.poll(&mut self.events, Some(sleep)) {
            Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(ProcessError::system("epoll")(e)),
            _ => {}
        }
        self.take_beats();
        self.on_events();
        self.take_messages();
        self.take_outcomes();
        self.take_questions();
        let now = Instant::now();
        if now.duration_since(self.ticked) >= TICK {
            self.ticked = now;
            self.listener.on_time(self.poll.registry(), now);
            self.machine_event(OrchestratorEvent::Tick);
            self.publish_metrics(now);
            self.end_late_wishes();
        }
        self.accept();
        self.flush();
        if self.stopping {
            self.log.write(ProcessEvent::stopping(now_us()));
        }
        Ok(!self.stopping)
    }

    fn take_beats(&mut self) {
        let (machine, commands) = (&mut self.machine, &mut self.commands);
        let more = self.beats.receive(|beat| machine.on(now_us(), OrchestratorEvent::Beat(beat), commands));
        self.more |= more;
        self.carry_out();
    }

    fn on_events(&mut self) {
        let now = Instant::now();
        let mut failed = Vec::new();
        for event in &self.events {
            let token = event.token();
            if token == STOP {
                self.stopping = true;
            } else if self.listener.tokens().contains(&token.0) {
                self.listener.on_event(self.poll.registry(), event, now);
            } else if self.links.tokens().contains(&token.0)
                && let Some((place, Err(error))) = self.links.on_event(event)
            {
                failed.push((place, error));
            }
        }
        for (place, error) in failed {
            self.drop_link(place, Some(&error));
        }
    }

    fn take_outcomes(&mut self) {
        while let Some((id, result)) = self.store.next_outcome() {
            if let Ok(changes) = &result {
                self.end_if(EndPoint::AfterTransaction, &changes.put);
                self.learn_cluster(&changes.put);
            }
            self.machine_event(OrchestratorEvent::TxnDone { id, result });
        }
    }

    /// A new store gets its cluster id with its first transaction: from then on hellos say it.
    fn learn_cluster(&mut self, put: &[Record]) {
        for record in put {
            if let Record::Cluster(cluster) = record
                && cluster.cluster != self.hello.cluster
            {
                self.hello.cluster = cluster.cluster;
                self.listener.set_hello(self.hello.clone());
            }
        }
    }

    pub(super) fn machine_event(&mut self, event: OrchestratorEvent) {
        self.machine.on(now_us(), event, &mut self.commands);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        for command in commands.drain(..) {
            match command {
                OrchestratorCommand::Txn { id, txn } => {
                    self.end_if(EndPoint::BeforeTransaction, &txn.put);
                    if let Some((id, result)) = self.store.submit(id, txn) {
                        // Not `machine_event`: its commands come after those that are being carried out.
                        self.machine.on(now_us(), OrchestratorEvent::TxnDone { id, result }, &mut self.commands);
                    }
                }
                OrchestratorCommand::Send { to, message } => self.send(to, &message),
                OrchestratorCommand::Note(note) => self.note(&note),
            }
        }
        if self.commands.is_empty() {
            // Keep the room that it has grown to.
            self.commands = commands;
        } else {
            self.carry_out();
        }
    }

    /// Ends the process at once, with nothing sent that waits, if a drill wants it here.
    fn end_if(&self, here: EndPoint, put: &[Record]) {
        if self.end_at == Some(here) && tells_a_death(put) {
            std::process::exit(ENDED_FOR_A_DRILL);
        }
    }

    fn note(&mut self, note: &Note) {
        self.figures.note(now_us(), note);
        if let Some(event) = event_of(now_us(), note) {
            tracing::info!(event = event.event, node = event.node, detail = %event.detail);
            self.log.write(event);
        }
    }

    fn publish_metrics(&mut self, now: Instant) {
        let Some(server) = &self.metrics else { return };
        if now.duration_since(self.told) >= METRICS_EVERY {
            server.publish(self.reading());
            self.told = now;
        }
    }

    fn take_questions(&mut self) {
        while let Some(question) = self.questions.as_ref().and_then(OperatorInput::next) {
            let answer = match question.as_str() {
                "status" => self.status(),
                "stop" => {
                    self.stopping = true;
                    json!({ "ok": true })
                }
                other => match other.strip_prefix("end ").and_then(EndPoint::named) {
                    Some(end_point) => {
                        self.end_at = Some(end_point);
                        json!({ "ok": true })
                    }
                    None => json!({ "error": format!("unknown question {other:?}: status, stop") }),
                },
            };
            OperatorInput::answer(&answer);
        }
    }
}

fn listen(
    config: &OrchestratorProcessConfig,
    identity: &Identity,
    hello: &Hello,
    poll: &Poll,
) -> Result<Listener, ProcessError> {
    let admits = RoleSet { nodes: true, edge: true, orchestrator: false, operators: true };
    let limits = ListenerLimits::default();
    let mut listener = Listener::bind(config.listen, identity, hello.clone(), admits, limits, Instant::now())?;
    listener.register(poll.registry(), LISTENER).map_err(ProcessError::system("registration of the listener"))?;
    Ok(listener)
}

fn hello(cluster: [u8; 16]) -> Hello {
    let nobody = Incarnation(0);
    Hello { version: PROTOCOL_VERSION, cluster, from: Role::Orchestrator, inc: nobody, expect: nobody, channel: 0 }
}

fn machine_config(config: &OrchestratorProcessConfig) -> Result<OrchestratorConfig, ProcessError> {
    let broken = config.broken.as_deref().map(str::parse::<Mutant>).transpose()?;
    if let Some(mutant) = broken {
        tracing::warn!("this orchestrator is broken on purpose: {}", mutant.name());
    }
    Ok(OrchestratorConfig {
        new_cluster: escape_link::pki::random()?,
        new_placement_seed: config.secrets.placement_seed,
        suspicion: config.timing.suspicion(),
        claim_us: config.claim_ms.saturating_mul(1000),
        slice_crashes_per_minute: config.slice_crashes_per_minute,
        groups_per_node: config.groups_per_node,
        leases_max: config.n_slots / LEASE_SLOTS,
        leases_per_join_max: config.leases_per_join_max,
        broken,
        ..OrchestratorConfig::default()
    })
}
