//! The running generator as the drill sees it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Poll, Waker};
use rustix::process::{Resource, Rlimit};

use super::command::{Command, Nodes, RoundLoad};
use super::error::LoadError;
use super::generator::{Generator, WAKER};
use super::live::Live;
use super::outcome::LoadOutcome;
use super::plan::LoadPlan;
use super::turns::CHURN_MAX;

/// Orders that may wait for the generator; more make the asker wait (the drill is the only one).
const COMMANDS_MAX: usize = 64;
/// How long an answer of the generator is awaited.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest time from `finish` to the end of the thread: draining, checking and closing with their limits, and slack.
const FINISH_LIMIT: Duration = Duration::from_secs(20);
/// Descriptors beside the sessions'.
const OTHER_FILES: u64 = 256;
/// Pause between two looks at a figure that is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// Makes the generator's thread enter the clients' network namespace; called first on that thread.
pub type Enter = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// A generator on its own thread. Dropped without [`LoadHandle::finish`], it still ends within its limits.
#[derive(Debug)]
pub struct LoadHandle {
    commands: SyncSender<Command>,
    waker: Waker,
    live: Arc<Live>,
    sessions: u64,
    thread: JoinHandle<Result<LoadOutcome, LoadError>>,
}

impl LoadHandle {
    /// Starts the load; sessions are opened at the plan's pace, then the schedule begins.
    pub fn start(plan: LoadPlan, enter: Enter) -> Result<Self, LoadError> {
        raise_file_limit(plan.sessions as u64 + CHURN_MAX as u64 + OTHER_FILES)?;
        let poll = Poll::new().map_err(LoadError::io("making an epoll"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(LoadError::io("making a waker"))?;
        let live = Arc::new(Live::default());
        let (commands, orders) = mpsc::sync_channel(COMMANDS_MAX);
        let sessions = plan.sessions as u64;
        let shown = Arc::clone(&live);
        let thread = thread::Builder::new()
            .name("load".into())
            .spawn(move || {
                enter().map_err(LoadError::io("entering the clients' network namespace"))?;
                Generator::new(plan, poll, orders, shown)?.run()
            })
            .map_err(LoadError::io("starting the generator's thread"))?;
        Ok(Self { commands, waker, live, sessions, thread })
    }

    /// Figures that change while it runs.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Waits until every session is open.
    pub fn wait_open(&self, limit: Duration) -> Result<(), LoadError> {
        let begun = Instant::now();
        loop {
            let (open, gone) = (Live::get(&self.live.open), Live::get(&self.live.gone));
            if open >= self.sessions {
                return Ok(());
            }
            if gone > 0 || begun.elapsed() >= limit || self.thread.is_finished() {
                let first = self.live.first_violation.get().map_or(String::new(), |first| format!("; first: {first}"));
                return Err(LoadError::NotOpened {
                    open,
                    sessions: self.sessions,
                    gone,
                    after: begun.elapsed(),
                    first,
                });
            }
            thread::sleep(LOOK);
        }
    }

    /// Has every HTTP session ask which node serves it and waits for the answers. Sessions that do not answer within
    /// `limit` are counted as unknown.
    pub fn refresh_nodes(&self, limit: Duration) -> Result<Nodes, LoadError> {
        self.send(Command::RefreshNodes, "to refresh the nodes")?;
        let begun = Instant::now();
        loop {
            let nodes = self.ask(Command::Nodes, "which nodes serve")?;
            if nodes.unknown == 0 || begun.elapsed() >= limit {
                return Ok(nodes);
            }
            thread::sleep(4 * LOOK);
        }
    }

    /// Waits until `in_flight` requests are in flight, at least one of them of `node`'s sessions. `None`: the moment
    /// did not come within `limit`.
    pub fn wait_in_flight(&self, in_flight: u64, node: u16, limit: Duration) -> Result<Option<u64>, LoadError> {
        let (now, moment) = mpsc::sync_channel(1);
        self.send(Command::Arm { in_flight, node, now }, "to watch for a moment")?;
        match moment.recv_timeout(limit) {
            Ok(in_flight) => Ok(Some(in_flight)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(None),
        }
    }

    /// Tells that a fault happened to `nodes` (none: to another part of the cell).
    pub fn fault(&self, at: Instant, nodes: &[u16]) -> Result<(), LoadError> {
        self.send(Command::Fault { at, nodes: nodes.to_vec() }, "about the fault")
    }

    /// Gives up the sessions with these client addresses: they were reported as lost. Returns their number.
    pub fn excuse(&self, clients: Vec<SocketAddr>) -> Result<usize, LoadError> {
        let (answer, excused) = mpsc::sync_channel(1);
        let what = "which sessions are lost";
        self.send(Command::Excuse { clients, answer }, what)?;
        excused.recv_timeout(ANSWER_LIMIT).map_err(|_| LoadError::Silent { what, after: ANSWER_LIMIT })
    }

    /// What was seen since the last fault.
    pub fn round(&self) -> Result<RoundLoad, LoadError> {
        self.ask(Command::Round, "what the clients saw")
    }

    /// Ends the load: last replies, last check of every session, clean close. Bounded by the limits of those phases.
    pub fn finish(self) -> Result<LoadOutcome, LoadError> {
        self.send(Command::Finish, "to finish")?;
        let begun = Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > FINISH_LIMIT {
                return Err(LoadError::Silent { what: "to finish", after: FINISH_LIMIT });
            }
            thread::sleep(LOOK);
        }
        self.thread.join().map_err(|_| LoadError::Panicked)?
    }

    fn ask<T>(&self, command: fn(SyncSender<T>) -> Command, what: &'static str) -> Result<T, LoadError> {
        let (sender, answer): (_, Receiver<T>) = mpsc::sync_channel(1);
        self.send(command(sender), what)?;
        answer.recv_timeout(ANSWER_LIMIT).map_err(|_| LoadError::Silent { what, after: ANSWER_LIMIT })
    }

    fn send(&self, command: Command, what: &'static str) -> Result<(), LoadError> {
        // The queue is longer than what the drill ever has under way: a full one means that the thread hangs.
        self.commands.try_send(command).map_err(|_| LoadError::Silent { what, after: Duration::ZERO })?;
        self.waker.wake().map_err(LoadError::io("waking the generator"))
    }
}

/// Raises the limit of open files as far as needed and allowed; the hard limit too where that may be done.
fn raise_file_limit(wanted: u64) -> Result<(), LoadError> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // None means "no limit".
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|&maximum| maximum < wanted) {
        let higher = Rlimit { current: Some(wanted), maximum: Some(wanted) };
        return rustix::process::setrlimit(Resource::Nofile, higher)
            .map_err(|_| LoadError::FileLimit { wanted, limit: maximum });
    }
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
        .map_err(|errno| LoadError::Io { what: "raising the limit of open files", source: errno.into() })
}
