//! The open-loop generator: one thread, one poll loop, all sessions.
//!
//! ```text
//! Opening ─▶ Running ─(Finish)─▶ Draining ─▶ Checking ─▶ Closing ─▶ Done
//! ```
//! Turns of the schedule are in `turns.rs`, what the kernel reports in `events.rs`, the end of a run in `ending.rs`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};

use mio::{Events, Poll, Token};

use super::clock::LoadClock;
use super::command::{Command, Nodes, RoundLoad};
use super::connection::{Connection, Talk};
use super::error::LoadError;
use super::fault_watch::FaultWatch;
use super::ledger::Ledger;
use super::live::Live;
use super::outcome::LoadOutcome;
use super::plan::LoadPlan;
use super::schedule::Schedule;
use super::timer::Timer;

/// Token of the handle's waker.
pub(super) const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
/// Events taken per turn of the loop.
const EVENTS_MAX: usize = 1024;
/// Bytes read at once.
const SCRATCH: usize = 64 << 10;
/// Longest sleep of the loop, µs: live figures are never older.
const IDLE_US: u64 = 100_000;

/// Where the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Sessions are being opened: `next` is the first not yet tried, at `due_us`.
    Opening { next: usize, due_us: u64 },
    /// The schedule runs.
    Running,
    /// No more requests; replies are awaited.
    Draining { until_us: u64 },
    /// The last check of every session: `next` is the first that has not been asked, at `due_us`; then replies are awaited.
    Checking { next: usize, due_us: u64, until_us: u64 },
    /// The ends of the connections are awaited.
    Closing { until_us: u64 },
    /// Over.
    Done,
}

/// Tell when so many requests are in flight.
#[derive(Debug)]
pub(super) struct Trigger {
    pub(super) in_flight: u64,
    pub(super) node: u16,
    pub(super) now: SyncSender<u64>,
}

/// The generator; lives on its own thread.
#[derive(Debug)]
pub struct Generator {
    pub(super) plan: LoadPlan,
    pub(super) clock: LoadClock,
    pub(super) poll: Poll,
    pub(super) timer: Timer,
    pub(super) commands: Receiver<Command>,
    pub(super) live: Arc<Live>,
    pub(super) phase: Phase,
    pub(super) schedule: Schedule,
    /// When the next short session is due.
    pub(super) churn_due_us: Option<u64>,
    /// The run's sessions at their index, short sessions behind them.
    pub(super) connections: Vec<Option<Connection>>,
    /// Free places for short sessions.
    pub(super) free: Vec<usize>,
    /// Connections whose handshake is under way.
    pub(super) connecting: usize,
    /// The run's sessions that are open.
    pub(super) open: u64,
    /// HTTP sessions that ask for their node at their next turn.
    pub(super) wants_facts: Vec<bool>,
    pub(super) trigger: Option<Trigger>,
    pub(super) ledger: Ledger,
    pub(super) gone: u64,
    pub(super) scratch: Box<[u8]>,
}

impl Generator {
    /// A generator that takes orders from `commands`.
    pub(super) fn new(
        plan: LoadPlan,
        clock: LoadClock,
        poll: Poll,
        commands: Receiver<Command>,
        live: Arc<Live>,
    ) -> Result<Self, LoadError> {
        let timer = Timer::new(poll.registry(), TIMER).map_err(LoadError::io("making a timer"))?;
        let sessions = plan.sessions;
        Ok(Self {
            clock,
            poll,
            timer,
            commands,
            live,
            phase: Phase::Opening { next: 0, due_us: 0 },
            schedule: Schedule::new(0, 0, 1, 1),
            churn_due_us: None,
            connections: (0..sessions).map(|_| None).collect(),
            free: Vec::new(),
            connecting: 0,
            open: 0,
            wants_facts: vec![true; sessions],
            trigger: None,
            ledger: Ledger::new(plan.first_session),
            gone: 0,
            scratch: vec![0; SCRATCH].into(),
            plan,
        })
    }

    /// Runs until the handle says `Finish` (or is dropped) and every session was checked.
    pub(super) fn run(mut self) -> Result<LoadOutcome, LoadError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while self.phase != Phase::Done {
            let now_us = self.clock.now_us();
            let due_us = self.next_due_us().unwrap_or(u64::MAX).min(now_us + IDLE_US);
            self.timer.set(due_us.saturating_sub(now_us)).map_err(LoadError::io("setting the timer"))?;
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(LoadError::Io { what: "waiting for events", source: error });
                }
                _ => {}
            }
            for event in &events {
                if event.token() != WAKER && event.token() != TIMER {
                    self.on_event(event);
                }
            }
            self.take_turns();
            self.obey();
            self.advance();
            self.show();
        }
        Ok(self.outcome())
    }

    fn next_due_us(&self) -> Option<u64> {
        match self.phase {
            Phase::Opening { due_us, .. } => Some(due_us),
            Phase::Running => match (self.schedule.next_due_us(), self.churn_due_us) {
                (Some(turn), Some(churn)) => Some(turn.min(churn)),
                (turn, churn) => turn.or(churn),
            },
            Phase::Checking { next, due_us, .. } if next < self.connections.len() => Some(due_us),
            Phase::Draining { until_us } | Phase::Checking { until_us, .. } | Phase::Closing { until_us } => {
                Some(until_us)
            }
            Phase::Done => None,
        }
    }

    fn obey(&mut self) {
        loop {
            // An answer that nobody awaits any more is no error: the asker had a time limit.
            match self.commands.try_recv() {
                Ok(Command::RefreshNodes) => self.refresh_nodes(),
                Ok(Command::Nodes(answer)) => drop(answer.try_send(self.nodes())),
                Ok(Command::Arm { in_flight, node, now }) => self.trigger = Some(Trigger { in_flight, node, now }),
                Ok(Command::Fault { at, nodes }) => self.begin_watch(self.clock.at_us(at), nodes),
                Ok(Command::Excuse { clients, answer }) => drop(answer.try_send(self.excuse(&clients))),
                Ok(Command::Round(answer)) => drop(answer.try_send(self.round())),
                Ok(Command::Finish) => self.begin_end(),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.begin_end(),
            }
        }
    }

    fn show(&self) {
        Live::set(&self.live.open, self.open);
        // Before the count of those gone: who sees the count finds the reason.
        if let Some(first) = self.ledger.described.first() {
            self.live.first_violation.get_or_init(|| first.clone());
        }
        Live::set(&self.live.gone, self.gone);
        Live::set(&self.live.in_flight, self.ledger.in_flight);
        Live::set(&self.live.requests, self.ledger.requests);
        Live::set(&self.live.waiting, self.ledger.watch.as_ref().map_or(0, |watch| watch.waiting() as u64));
    }

    fn refresh_nodes(&mut self) {
        self.wants_facts.fill(true);
        for connection in self.connections.iter_mut().flatten() {
            if let Talk::Http(session) = &mut connection.talk {
                session.forget_facts();
            }
        }
    }

    /// The node that served session `index` when it last asked.
    pub(super) fn node_of(&self, index: usize) -> Option<u16> {
        match &self.connections.get(index)?.as_ref()?.talk {
            Talk::Http(session) => session.facts().map(|facts| facts.node),
            Talk::Stream(_) => None,
        }
    }

    fn nodes(&self) -> Nodes {
        let mut nodes = Nodes::default();
        for connection in self.connections.iter().take(self.plan.sessions).flatten() {
            match &connection.talk {
                Talk::Http(session) => match session.facts() {
                    Some(facts) => *nodes.sessions.entry(facts.node).or_default() += 1,
                    None => nodes.unknown += 1,
                },
                Talk::Stream(_) => {}
            }
        }
        nodes
    }

    fn begin_watch(&mut self, fault_us: u64, nodes: Vec<u16>) {
        self.trigger = None;
        let has_failed = |index| self.node_of(index).is_some_and(|node| nodes.contains(&node));
        let on_failed_node = (0..self.plan.sessions).map(has_failed).collect();
        let mut watch = FaultWatch::new(fault_us, nodes, on_failed_node);
        for (index, connection) in self.connections.iter().enumerate() {
            if let Some(Connection { talk: Talk::Http(session), .. }) = connection {
                session.sent_times_us().for_each(|sent_us| watch.count_in_flight(index, sent_us, None));
            }
        }
        self.ledger.begin_watch(watch);
    }

    fn round(&self) -> RoundLoad {
        let Ledger { requests, replies, held_back, of_failed_node, others, .. } = self.ledger;
        let counts = RoundLoad { requests, replies, held_back, of_failed_node, others, ..RoundLoad::default() };
        let Some(watch) = &self.ledger.watch else { return counts };
        let (in_flight, in_flight_on_failed_node) = watch.in_flight();
        RoundLoad {
            fault_us: watch.fault_us(),
            in_flight,
            in_flight_on_failed_node,
            on_failed_node: watch.on_failed_node(),
            failed_over: (0..self.plan.sessions).filter(|&index| self.has_moved(watch, index)).count(),
            waiting: watch.waiting(),
            first_bytes: watch.first_bytes(true),
            first_bytes_others: watch.first_bytes(false),
            ..counts
        }
    }

    fn has_moved(&self, watch: &FaultWatch, index: usize) -> bool {
        watch.is_on_failed_node(index) && self.node_of(index).is_some_and(|node| !watch.has_failed(node))
    }

    fn outcome(&self) -> LoadOutcome {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        LoadOutcome {
            sessions: self.plan.sessions,
            requests: self.ledger.requests,
            replies: self.ledger.replies,
            held_back: self.ledger.held_back,
            churned: self.ledger.churned,
            churn_held_back: self.ledger.churn_held_back,
            of_failed_node: self.ledger.of_failed_node,
            others: self.ledger.others,
            excused: self.ledger.excused,
            described: self.ledger.described.clone(),
            given_up: self.ledger.given_up(),
            latency_us: self.ledger.latency_us.clone(),
            cpu_us: cpu.tv_sec.unsigned_abs() * 1_000_000 + cpu.tv_nsec.unsigned_abs() / 1_000,
        }
    }
}
