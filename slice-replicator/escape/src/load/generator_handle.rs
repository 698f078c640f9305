//! One running generator.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use super::clock::LoadClock;
use super::command::{Command, Nodes, RoundLoad};
use super::ending::checking_time;
use super::error::LoadError;
use super::file_table::FileTable;
use super::generator::{Generator, WAKER};
use super::live::Live;
use super::outcome::LoadOutcome;
use super::plan::LoadPlan;

/// Orders that may wait for the generator; more make the asker wait (the drill is the only one).
const COMMANDS_MAX: usize = 64;
/// Pause between two looks at a thread that is to end.
const LOOK: Duration = Duration::from_millis(5);
/// How long an answer of the generator is awaited.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest time from `finish` to the end of the thread: draining, checking and closing with their limits, and slack. Beside it the
/// sessions are checked lot by lot.
const FINISH_LIMIT: Duration = Duration::from_secs(20);
/// Makes the generator's thread enter the clients' network namespace; called first on that thread.
pub type Enter = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// A generator on its own thread. Dropped without [`GeneratorHandle::finish`], it still ends within its limits.
#[derive(Debug)]
pub(super) struct GeneratorHandle {
    commands: SyncSender<Command>,
    waker: Waker,
    live: Arc<Live>,
    thread: JoinHandle<Result<LoadOutcome, LoadError>>,
    files: FileTable,
    /// Time for the last check of all its sessions.
    checking: Duration,
}

impl GeneratorHandle {
    /// Starts it; sessions are opened at the plan's pace, then the schedule begins. With `own_files` its sockets do not count
    /// towards the open files of anybody else in this process.
    pub(super) fn start(plan: LoadPlan, clock: LoadClock, enter: Enter, own_files: bool) -> Result<Self, LoadError> {
        let poll = Poll::new().map_err(LoadError::io("making an epoll"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(LoadError::io("making a waker"))?;
        let live = Arc::new(Live::default());
        let (commands, orders) = mpsc::sync_channel(COMMANDS_MAX);
        let shown = Arc::clone(&live);
        let (files, table) = FileTable::new(&poll);
        let checking = checking_time(plan.sessions);
        let thread = thread::Builder::new()
            .name("load".into())
            .spawn(move || {
                // First: what it holds open must be closed in the table that all share.
                enter().map_err(LoadError::io("entering the clients' network namespace"))?;
                if own_files {
                    table.unshare(&poll).map_err(LoadError::io("making a table of open files for a thread"))?;
                }
                Generator::new(plan, clock, poll, orders, shown)?.run()
            })
            .map_err(LoadError::io("starting the generator's thread"))?;
        Ok(Self { commands, waker, live, thread, files, checking })
    }

    /// Figures that change while it runs.
    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// Its thread has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Has every HTTP session ask which node serves it; [`Self::nodes`] tells the answers.
    pub(super) fn refresh_nodes(&self) -> Result<(), LoadError> {
        self.send(Command::RefreshNodes, "to refresh the nodes")
    }

    /// Which node serves how many sessions.
    pub(super) fn nodes(&self) -> Result<Nodes, LoadError> {
        self.ask(Command::Nodes, "which nodes serve")
    }

    /// Waits until `in_flight` requests are in flight, at least one of them of `node`'s sessions. `None`: the moment
    /// did not come within `limit`.
    pub(super) fn wait_in_flight(&self, in_flight: u64, node: u16, limit: Duration) -> Result<Option<u64>, LoadError> {
        let (now, moment) = mpsc::sync_channel(1);
        self.send(Command::Arm { in_flight, node, now }, "to watch for a moment")?;
        match moment.recv_timeout(limit) {
            Ok(in_flight) => Ok(Some(in_flight)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(None),
        }
    }

    /// Tells that a fault happened to `nodes` (none: to another part of the cell).
    pub(super) fn fault(&self, at: Instant, nodes: &[u16]) -> Result<(), LoadError> {
        self.send(Command::Fault { at, nodes: nodes.to_vec() }, "about the fault")
    }

    /// Gives up the sessions with these client addresses: they were reported as lost. Returns their number.
    pub(super) fn excuse(&self, clients: Vec<SocketAddr>) -> Result<usize, LoadError> {
        let (answer, excused) = mpsc::sync_channel(1);
        let what = "which sessions are lost";
        self.send(Command::Excuse { clients, answer }, what)?;
        excused.recv_timeout(ANSWER_LIMIT).map_err(|_| LoadError::Silent { what, after: ANSWER_LIMIT })
    }

    /// What was seen since the last fault.
    pub(super) fn round(&self) -> Result<RoundLoad, LoadError> {
        self.ask(Command::Round, "what the clients saw")
    }

    /// Tells it to end; [`Self::finish`] waits for that.
    pub(super) fn begin_end(&self) -> Result<(), LoadError> {
        self.send(Command::Finish, "to finish")
    }

    /// Waits for its end: last replies, last check of every session, clean close. Bounded by the limits of those phases.
    pub(super) fn finish(self) -> Result<LoadOutcome, LoadError> {
        let begun = Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > FINISH_LIMIT + self.checking {
                return Err(LoadError::Silent { what: "to finish", after: begun.elapsed() });
            }
            thread::sleep(LOOK);
        }
        let outcome = self.thread.join().map_err(|_| LoadError::Panicked)?;
        self.files.close();
        outcome
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
