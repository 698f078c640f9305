//! The agent's loop.

use super::agent::Agent;
use super::asking::ASK_LOOK_EVERY;
use super::closing::LOOK_EVERY;
use super::host::{Doorbell, Host};
use super::route;
use super::words::Words;
use crate::error::AgentError;
use crate::keeping::{Kept, Name};
use crate::vsock;
use escape_abi::layout::{ARENA_BASE, CONTROL_BASE};
use escape_abi::wake::WAKE_PORT;
use escape_process::channel::{SOCKET_PATH, listen};
use escape_process::{Channel, SliceMemory, find_device};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Looks at what no event tells of.
const TICK: Duration = Duration::from_secs(1);
/// The network interface of a cell's guest.
const INTERFACE: &str = "eth0";
/// Kernel settings that a cell's guest must have: no answer without state of a connection, and nothing that a capsule has no place for. ICMP
/// does not reach a guest, so its kernel must find out by itself that large segments do not arrive (RFC 4821, for black holes only).
const SETTINGS: [(&str, &str); 4] = [
    ("/proc/sys/net/ipv4/tcp_syncookies", "0"),
    ("/proc/sys/net/ipv4/tcp_ecn", "0"),
    ("/proc/sys/net/ipv4/tcp_fastopen", "0"),
    ("/proc/sys/net/ipv4/tcp_mtu_probing", "1"),
];

/// Whether this guest is a cell's.
pub fn is_of_cell() -> bool {
    words().is_some()
}

fn words() -> Option<Words> {
    Words::of(&fs::read_to_string("/proc/cmdline").unwrap_or_default())
}

/// Serves host and processes, for ever; goes on with what a former agent has left.
///
/// # Errors
/// Something that a cell's guest must have is missing.
pub fn run(kept: Kept) -> Result<(), AgentError> {
    let words = words().ok_or(AgentError::NoCell)?;
    for (setting, value) in SETTINGS {
        fs::write(setting, value).map_err(|source| AgentError::Setting { setting, source })?;
    }
    route::set_default(INTERFACE)?;
    let (control, arena) = (find_device(CONTROL_BASE)?, find_device(ARENA_BASE)?);
    let memory = SliceMemory::map(&control, &arena)?;
    let host = Host::of(&memory, Doorbell::map()?)?;
    let size = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let copy = |device: &escape_process::Device| {
        device.as_fd().try_clone_to_owned().map_err(escape_process::ProcessError::call("dup"))
    };
    let devices = [(copy(&control)?, size(control.bytes())), (copy(&arena)?, size(arena.bytes()))];
    let (agent, listener) = Agent::begin(memory, host, devices, words.ip.octets(), kept)?;
    let found = agent.places.iter().count();
    println!(
        "escape-agent: node {}, {} slots, {found} slices, processes at {SOCKET_PATH}",
        words.node,
        memory.n_slots()
    );
    AgentLoop::begin(agent, listener, Path::new(SOCKET_PATH))?.run()
}

/// The agent and what it waits for.
pub struct AgentLoop {
    agent: Agent,
    listener: OwnedFd,
    /// The host wakes the agent by bytes on it.
    waker: Option<OwnedFd>,
    looked: Instant,
}

impl AgentLoop {
    /// An agent whose processes call at this listener of a former agent's, or at a new one there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(mut agent: Agent, listener: Option<OwnedFd>, path: &Path) -> Result<Self, AgentError> {
        let listener = listener.map_or_else(|| listen(path), Ok)?;
        agent.kept.keep(Name::Listener, [0; 4], listener.as_fd());
        Ok(Self { agent, listener, waker: None, looked: Instant::now() })
    }

    /// Serves for ever.
    fn run(mut self) -> Result<(), AgentError> {
        loop {
            self.turn(TICK)?;
        }
    }

    /// One turn; waits for so long at most.
    ///
    /// # Errors
    /// The kernel does not let it wait.
    pub fn turn(&mut self, patience_max: Duration) -> Result<(), AgentError> {
        self.agent.hear_host();
        if self.agent.has_closing() {
            self.agent.look_at_closing();
        }
        if self.agent.has_asking() {
            self.agent.look_at_asking();
        }
        if self.looked.elapsed() >= TICK {
            self.looked = Instant::now();
            self.agent.look_at_openings();
            self.agent.answer_unheard();
        }
        self.agent.tell_given();
        self.agent.host.announce();
        self.wait(patience_max)
    }

    /// Sleeps until somebody has something to say, and takes what processes say.
    fn wait(&mut self, patience_max: Duration) -> Result<(), AgentError> {
        if self.waker.is_none() {
            // Without it the agent looks when it looks; the host may not be up yet.
            self.waker = vsock::call_host(WAKE_PORT).ok();
        }
        let patience = match (self.agent.has_asking(), self.agent.has_closing()) {
            (true, _) => ASK_LOOK_EVERY,
            (false, true) => LOOK_EVERY,
            (false, false) => TICK,
        };
        let patience = patience.min(patience_max);
        self.agent.host.heartbeat.set_asleep(true);
        let patience = if self.agent.host.has_news() { Duration::ZERO } else { patience };
        let (ready, gone) = self.poll(patience)?;
        self.agent.host.heartbeat.set_asleep(false);
        if gone {
            self.waker = None;
        }
        for id in ready {
            if self.agent.hear_process(id).is_err() {
                self.agent.process_gone(id);
            }
        }
        while let Ok(process) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) {
            // One too many hears its end.
            self.agent.add_process(Channel::of(process));
        }
        Ok(())
    }

    /// Processes that have something to say, and whether the waker is gone.
    fn poll(&mut self, patience: Duration) -> Result<(Vec<u64>, bool), AgentError> {
        let processes: Vec<(u64, Channel)> =
            self.agent.processes.iter().map(|process| (process.id, process.channel.clone())).collect();
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(processes.iter().map(|(_, channel)| PollFd::new(channel, PollFlags::IN)));
        fds.extend(self.waker.iter().map(|waker| PollFd::new(waker, PollFlags::IN)));
        let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(AgentError::Accept(errno.into())),
        }
        let said: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let ready = processes.iter().zip(said.iter().skip(1)).filter(|(_, said)| **said).map(|((id, _), _)| *id);
        let ready = ready.collect();
        let woken = said.get(1 + processes.len()).copied().unwrap_or(false);
        let gone = woken && self.waker.as_ref().is_some_and(|waker| drain(waker.as_fd()).is_err());
        Ok((ready, gone))
    }
}

/// Takes the bytes off: each says the same.
fn drain(waker: std::os::fd::BorrowedFd<'_>) -> Result<(), ()> {
    let mut bytes = [0u8; 256];
    match rustix::net::recv(waker, &mut bytes[..], rustix::net::RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Err(()),
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(_) => Err(()),
    }
}
