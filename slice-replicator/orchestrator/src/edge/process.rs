//! The edge's loop.
//!
//! A turn: records and gates in, steering and answers out; only then what can wait (single flows, counters, ARP).

use super::config::EdgeProcessConfig;
use super::counters::counters;
use super::failed_groups::FailedGroups;
use super::steering::Steering;
use super::upstream::Upstream;
use crate::error::ProcessError;
use crate::event_log::{EventLog, ProcessEvent};
use crate::link_table::{LinkTable, PlaceNo};
use crate::operator_input::OperatorInput;
use crate::os::{now_us, real_time};
use crate::stop_signal::StopSignal;
use escape_engine::Mutant;
use escape_engine::edge::{EdgeCommand, EdgeConfig, EdgeEvent, EdgeMachine, GroupSteering};
use escape_fabric::arp::ArpResponder;
use escape_fabric::fabric::FLOWS_MAX;
use escape_link::{LinkError, Listener, ListenerLimits, LogLimit, RoleSet};
use escape_metrics::MetricsServer;
use escape_proto::{
    EdgeReply, EdgeRequest, FlowEntry, FromOrchestrator, Hello, Incarnation, Member, PROTOCOL_VERSION, Role,
};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use serde_json::json;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

const STOP: Token = Token(0);
const WAKE: Token = Token(1);
const ORCHESTRATOR: Token = Token(2);
const ARP: Token = Token(3);
const INTERFACES: Token = Token(4);
/// Links of nodes; the listener's tokens lie behind them.
const FIRST_LINK: usize = 16;
/// 16 nodes, each perhaps with a link of its former life.
const LINKS_MAX: usize = 64;
const LISTENER: Token = Token(FIRST_LINK + LINKS_MAX);
/// Longest sleep.
const TICK: Duration = Duration::from_millis(5);
/// Messages taken from one link per turn.
const MESSAGES_PER_TURN_MAX: usize = 64;

/// Runs the edge until SIGTERM or SIGINT. The fabric stays in force: flows go on, and the next edge takes it over.
///
/// # Errors
/// What kept it from starting, or ended it.
pub fn run_edge(config: EdgeProcessConfig) -> Result<(), ProcessError> {
    let mut process = EdgeProcess::start(config)?;
    process.answer_questions()?;
    while process.turn()? {}
    Ok(())
}

/// The edge with its sockets and tables; [`run_edge`] turns it until it is asked to stop.
pub struct EdgeProcess {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    _stop: StopSignal,
    upstream: Upstream,
    hello: Hello,
    pub(super) listener: Listener,
    links: LinkTable<Member>,
    pub(super) arp: ArpResponder,
    pub(super) steering: Steering,
    machine: EdgeMachine,
    commands: Vec<EdgeCommand>,
    questions: Option<OperatorInput>,
    pub(super) log: EventLog,
    pub(super) metrics: Option<MetricsServer>,
    pub(super) told: Instant,
    ticked: Instant,
    look_at_interfaces: bool,
    failed: FailedGroups,
    trouble: LogLimit,
    pub(super) more: bool,
    stopping: bool,
}

impl EdgeProcess {
    /// Puts the fabric in force, binds the address and calls the orchestrator.
    ///
    /// # Errors
    /// What kept it from starting.
    pub fn start(config: EdgeProcessConfig) -> Result<Self, ProcessError> {
        let identity = config.secrets.identity()?;
        if identity.role() != Role::Edge {
            let found = escape_link::pki::role_label(identity.role());
            return Err(ProcessError::WrongSecrets { found, wanted: "edge" });
        }
        let now = Instant::now();
        let poll = Poll::new().map_err(ProcessError::system("epoll"))?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(ProcessError::system("eventfd"))?);
        let stop = StopSignal::register(poll.registry(), STOP)?;
        let hello = hello();
        let limits = ListenerLimits::default();
        let mut listener = Listener::bind(config.listen, &identity, hello.clone(), RoleSet::NODES, limits, now)?;
        listener.register(poll.registry(), LISTENER).map_err(ProcessError::system("registration of the listener"))?;
        let machine = EdgeMachine::new(machine_config(&config)?);
        let mut steering = Steering::start(&config, now)?;
        let uplink = steering.interfaces().index_of(&config.uplink)?;
        let namespace = steering.interfaces().namespace();
        let arp = ArpResponder::start(namespace, uplink, config.service_ip, config.service_mac)?;
        watch(poll.registry(), &arp, ARP)?;
        watch(poll.registry(), steering.interfaces().watch(), INTERFACES)?;
        let mut log = EventLog::start(config.events.as_ref())?;
        log.write(ProcessEvent::started(now_us()));
        // Before this thread gets its priority, which the new one would inherit.
        let metrics = config.metrics.map(MetricsServer::start).transpose()?;
        if config.real_time {
            real_time("edge");
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            waker,
            _stop: stop,
            upstream: Upstream::new(config.orchestrator, ORCHESTRATOR, identity),
            hello,
            listener,
            links: LinkTable::new(FIRST_LINK, LINKS_MAX),
            arp,
            steering,
            machine,
            commands: Vec::new(),
            questions: None,
            log,
            metrics,
            told: now,
            ticked: now,
            // Interfaces that came while the fabric was being put in force.
            look_at_interfaces: true,
            failed: FailedGroups::default(),
            trouble: LogLimit::new(Duration::from_secs(1)),
            more: true,
            stopping: false,
        })
    }

    /// Where nodes connect.
    pub const fn link_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Answers questions on standard input from now on: `counters`, `stop`.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn answer_questions(&mut self) -> Result<(), ProcessError> {
        self.questions = Some(OperatorInput::start(Arc::clone(&self.waker))?);
        Ok(())
    }

    /// One turn, of 5 ms at most. False: it was asked to stop.
    ///
    /// # Errors
    /// The poll failed; trouble with the fabric is logged and tried again.
    pub fn turn(&mut self) -> Result<bool, ProcessError> {
        let sleep = if std::mem::take(&mut self.more) { Duration::ZERO } else { TICK };
        match self.poll.poll(&mut self.events, Some(sleep)) {
            Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(ProcessError::system("epoll")(e)),
            _ => {}
        }
        self.on_events();
        self.take_records();
        self.take_requests();
        self.accept();
        let now = Instant::now();
        let tick = now.duration_since(self.ticked) >= TICK;
        if tick {
            self.ticked = now;
            self.upstream.on_time(self.poll.registry(), now);
            self.listener.on_time(self.poll.registry(), now);
            self.machine_event(EdgeEvent::Tick);
        }
        self.flush();
        self.take_questions();
        if let Err(error) = self.work(now, tick)
            && let Some(suppressed) = self.trouble.pass(now)
        {
            tracing::warn!(suppressed, "fabric: {error}");
        }
        if self.stopping {
            self.log.write(ProcessEvent::stopping(now_us()));
        }
        Ok(!self.stopping)
    }

    fn on_events(&mut self) {
        let now = Instant::now();
        let mut failed = Vec::new();
        for event in &self.events {
            match event.token() {
                STOP => self.stopping = true,
                ORCHESTRATOR => self.upstream.on_event(event),
                INTERFACES => self.look_at_interfaces = true,
                token if self.listener.tokens().contains(&token.0) => {
                    self.listener.on_event(self.poll.registry(), event, now);
                }
                token if self.links.tokens().contains(&token.0) => {
                    if let Some((place, Err(error))) = self.links.on_event(event) {
                        failed.push((place, error));
                    }
                }
                // The waker's lines and ARP are looked at in every turn.
                _ => {}
            }
        }
        for (place, error) in failed {
            self.drop_link(place, Some(&error));
        }
    }

    fn take_records(&mut self) {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(message) = self.upstream.next() else { return };
            self.learn_cluster();
            if let FromOrchestrator::Records { nodes, groups, buckets, .. } = message {
                self.machine_event(EdgeEvent::Records { nodes, groups, buckets });
            }
        }
        self.more = true;
    }

    /// The orchestrator's hello names the cluster: from then on this end's hellos do too.
    fn learn_cluster(&mut self) {
        if let Some(cluster) = self.upstream.cluster()
            && cluster != self.hello.cluster
        {
            self.hello.cluster = cluster;
            self.listener.set_hello(self.hello.clone());
        }
    }

    fn take_requests(&mut self) {
        for place in self.links.taken() {
            for taken in 0..=MESSAGES_PER_TURN_MAX {
                if taken == MESSAGES_PER_TURN_MAX {
                    self.more = true;
                    break;
                }
                let Some(named) = self.links.get_mut(place) else { break };
                let from = named.name;
                match named.link.next_message::<EdgeRequest>() {
                    Ok(Some(request)) => self.machine_event(EdgeEvent::Request { from, request }),
                    Ok(None) => break,
                    Err(error) => {
                        self.drop_link(place, Some(&error));
                        break;
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Some(link) = self.listener.next_link() {
            let Some(member) = link.peer().and_then(escape_link::Peer::member) else {
                tracing::debug!(peer = %link.remote(), "refused: it has not joined the cell");
                continue;
            };
            if let Some(old) = self.links.find(|known| *known == member) {
                self.drop_link(old, None);
            }
            if self.links.insert(self.poll.registry(), link, member).is_none() {
                tracing::warn!(%member, "refused: {LINKS_MAX} links are open");
            }
            // Its first messages may have come with the hello.
            self.more = true;
        }
    }

    fn machine_event(&mut self, event: EdgeEvent) {
        self.machine.on(now_us(), event, &mut self.commands);
        while !self.commands.is_empty() {
            for command in std::mem::take(&mut self.commands) {
                self.carry_out(command);
            }
        }
    }

    fn carry_out(&mut self, command: EdgeCommand) {
        match command {
            EdgeCommand::Steer { groups, flows } => self.steer(groups, &flows),
            EdgeCommand::Reply { to, reply } => self.reply(to, &reply),
            EdgeCommand::Bind { group, flows } => self.steering.backlog_mut().bind(group, &flows),
            EdgeCommand::Unbind { flows } => self.steering.backlog_mut().unbind(&flows),
            EdgeCommand::Place { buckets } => self.steering.place(buckets),
        }
    }

    fn steer(&mut self, groups: Vec<GroupSteering>, flows: &[FlowEntry]) {
        let steered = self.steering.steer(groups, flows);
        let t_us = now_us();
        self.failed.news(t_us, &steered).into_iter().for_each(|event| self.log.write(event));
        if !steered.failed.is_empty() {
            let failed = EdgeEvent::SteerFailed { groups: steered.failed };
            self.machine.on(t_us, failed, &mut self.commands);
        }
        if steered.done.is_empty() {
            return;
        }
        let kernel_us = u64::try_from(steered.kernel.as_micros()).unwrap_or(u64::MAX);
        for group in &steered.flipped {
            let detail = json!({
                "group": group.group.0, "epoch": group.epoch.0, "inc": group.owner.inc.0,
                "mirror": group.mirror.map(|standby| standby.node.0), "kernel_us": kernel_us,
            });
            self.log.write(ProcessEvent { t_us, event: "flipped", node: Some(group.owner.node.0), detail });
        }
        self.machine.on(t_us, EdgeEvent::Steered { groups: steered.done }, &mut self.commands);
    }

    fn reply(&mut self, to: Member, reply: &EdgeReply) {
        let Some(place) = self.links.find(|member| *member == to) else { return };
        let Some(named) = self.links.get_mut(place) else { return };
        if let Err(error) = named.link.send(reply) {
            // It asks again on its next link.
            tracing::warn!("{error}");
            named.link.close();
        }
    }

    fn drop_link(&mut self, place: PlaceNo, error: Option<&LinkError>) {
        if let Some(error) = error {
            tracing::info!("{error}");
        }
        self.links.remove(self.poll.registry(), place);
    }

    fn flush(&mut self) {
        let mut failed = Vec::new();
        for (place, named) in self.links.iter_mut() {
            match named.link.flush() {
                Err(error) => failed.push((place, Some(error))),
                Ok(()) if named.link.is_dead() => failed.push((place, None)),
                Ok(()) => {}
            }
        }
        for (place, error) in failed {
            self.drop_link(place, error.as_ref());
        }
    }

    fn work(&mut self, now: Instant, tick: bool) -> Result<(), ProcessError> {
        self.arp.on_readable()?;
        if self.look_at_interfaces || tick {
            self.look_at_interfaces |= self.steering.interfaces().take_news()?;
        }
        if self.look_at_interfaces {
            self.steering.interfaces_changed()?;
            self.look_at_interfaces = false;
        }
        self.more |= self.steering.work(now)?;
        self.publish_metrics(now)
    }

    fn take_questions(&mut self) {
        while let Some(question) = self.questions.as_ref().and_then(OperatorInput::next) {
            let answer = match question.as_str() {
                "counters" => self.counters(),
                "stop" => {
                    self.stopping = true;
                    json!({ "ok": true })
                }
                other => json!({ "error": format!("unknown question {other:?}: counters, stop") }),
            };
            OperatorInput::answer(&answer);
        }
    }

    /// The fabric's counters and what belongs to them; also answered to `counters` on standard input.
    pub fn counters(&mut self) -> serde_json::Value {
        let arp = self.arp.counters();
        counters(&mut self.steering, arp).unwrap_or_else(|error| json!({ "error": error.to_string() }))
    }
}

fn watch(registry: &Registry, source: &impl AsFd, token: Token) -> Result<(), ProcessError> {
    registry
        .register(&mut SourceFd(&source.as_fd().as_raw_fd()), token, Interest::READABLE)
        .map_err(ProcessError::system("registration of a kernel socket"))
}

const fn hello() -> Hello {
    let nobody = Incarnation(0);
    Hello { version: PROTOCOL_VERSION, cluster: [0; 16], from: Role::Edge, inc: nobody, expect: nobody, channel: 0 }
}

fn machine_config(config: &EdgeProcessConfig) -> Result<EdgeConfig, ProcessError> {
    let broken = config.broken.as_deref().map(str::parse::<Mutant>).transpose()?;
    if let Some(mutant) = broken {
        tracing::warn!("this edge is broken on purpose: {}", mutant.name());
    }
    Ok(EdgeConfig { flows_max: FLOWS_MAX as usize, broken })
}
