//! All streams of one guest. Knows nothing of queues: packets go in and come out.

use super::config::{FIRST_GUEST_CID, HOST_CID, VsockConfig};
use super::connection::{Connection, Ended, Outgoing, Ports, head_to_guest};
use super::error::VsockError;
use super::greeting::{Greeting, Said};
use super::metrics::VsockMetrics;
use super::packet::{Head, Op, STREAM};
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Connections of one guest; more are refused.
const CONNECTIONS_MAX: usize = 256;
/// Programs that have not said yet where they want to go; the oldest makes room.
const GREETINGS_MAX: usize = 64;
/// Refusals that wait for the guest; more are not told, and the guest's own limit ends its attempt.
const RESETS_MAX: usize = 256;
/// Events looked at per call.
const EVENTS_MAX: usize = 64;
/// The first of the host's ports given to programs that connect to the guest.
const FIRST_HOST_PORT: u32 = 1 << 30;
/// The listener's token; streams have numbers from 1 on.
const LISTENER: u64 = 0;

/// All streams of one guest.
#[derive(Debug)]
pub(super) struct Muxer {
    cid: u32,
    path: PathBuf,
    listener: UnixListener,
    epoll: Epoll,
    greetings: BTreeMap<u64, Greeting>,
    connections: BTreeMap<u64, Connection>,
    by_ports: BTreeMap<Ports, u64>,
    /// Connections that may have a packet for the guest, each once, in the order of their turns.
    turns: VecDeque<u64>,
    resets: VecDeque<Ports>,
    next_token: u64,
    next_host_port: u32,
    pub(super) metrics: VsockMetrics,
}

impl Muxer {
    pub(super) fn new(config: &VsockConfig) -> Result<Self, VsockError> {
        if !(FIRST_GUEST_CID..u32::MAX).contains(&config.cid) {
            return Err(VsockError::Cid { cid: config.cid });
        }
        let listener = listen(&config.socket)?;
        let epoll = Epoll::new().map_err(VsockError::Epoll)?;
        watch(&epoll, listener.as_raw_fd(), LISTENER, EventSet::IN).map_err(VsockError::Epoll)?;
        Ok(Self {
            cid: config.cid,
            path: config.socket.clone(),
            listener,
            epoll,
            greetings: BTreeMap::new(),
            connections: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            turns: VecDeque::new(),
            resets: VecDeque::new(),
            next_token: LISTENER + 1,
            next_host_port: FIRST_HOST_PORT,
            metrics: VsockMetrics::default(),
        })
    }

    /// Readable when [`Muxer::look_at_host`] has something to do.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Ends all streams: the guest has begun anew.
    pub(super) fn forget_all(&mut self) {
        self.connections.clear();
        self.by_ports.clear();
        self.turns.clear();
        self.resets.clear();
    }

    /// Takes what the host's programs did; whether there may be more.
    pub(super) fn look_at_host(&mut self) -> bool {
        let mut events = [EpollEvent::default(); EVENTS_MAX];
        let count = self.epoll.wait(0, &mut events).unwrap_or(0);
        let mut more = count == EVENTS_MAX;
        for event in events.iter().take(count) {
            match event.data() {
                LISTENER => more |= self.accept(),
                token if self.greetings.contains_key(&token) => self.greeted(token),
                token => self.woken(token),
            }
        }
        more
    }

    /// Whether there may be more.
    fn accept(&mut self) -> bool {
        for _ in 0..EVENTS_MAX {
            let Ok((stream, _)) = self.listener.accept() else { return false };
            if self.greetings.len() >= GREETINGS_MAX {
                self.greetings.pop_first();
                self.metrics.refused += 1;
            }
            let token = self.token();
            if stream.set_nonblocking(true).is_ok() && self.watch_stream(&stream, token).is_ok() {
                self.greetings.insert(token, Greeting::new(stream));
                self.greeted(token);
            }
        }
        true
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token - 1
    }

    fn watch_stream(&self, stream: &UnixStream, token: u64) -> io::Result<()> {
        watch(&self.epoll, stream.as_raw_fd(), token, EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED)
    }

    fn greeted(&mut self, token: u64) {
        match self.greetings.remove(&token).map(Greeting::read) {
            Some(Said::Part(greeting)) => {
                self.greetings.insert(token, greeting);
            }
            Some(Said::Port(stream, guest)) if self.connections.len() < CONNECTIONS_MAX => {
                let ports = Ports { host: self.host_port(), guest };
                self.insert(token, Connection::to_guest(stream, ports));
                self.woken(token);
            }
            // Dropping the stream says it.
            _ => self.metrics.refused += 1,
        }
    }

    fn host_port(&mut self) -> u32 {
        loop {
            let port = self.next_host_port;
            self.next_host_port = port.checked_add(1).filter(|next| *next < u32::MAX).unwrap_or(FIRST_HOST_PORT);
            // There are far more ports than connections.
            if !self.by_ports.keys().any(|ports| ports.host == port) {
                return port;
            }
        }
    }

    fn insert(&mut self, token: u64, connection: Connection) {
        self.metrics.connections += 1;
        self.by_ports.insert(connection.ports(), token);
        self.connections.insert(token, connection);
        self.give_turn(token);
    }

    fn woken(&mut self, token: u64) {
        let outcome = self.connections.get_mut(&token).map_or(Ok(()), Connection::wake);
        self.after(token, outcome);
    }

    fn after(&mut self, token: u64, outcome: Result<(), Ended>) {
        match outcome {
            Ok(()) => self.give_turn(token),
            Err(ended) => self.remove(token, ended),
        }
    }

    fn give_turn(&mut self, token: u64) {
        let waits = self.connections.get(&token).is_some_and(Connection::has_packet);
        if waits && !self.turns.contains(&token) {
            self.turns.push_back(token);
        }
    }

    fn remove(&mut self, token: u64, ended: Ended) {
        let Some(connection) = self.connections.remove(&token) else { return };
        self.by_ports.remove(&connection.ports());
        self.turns.retain(|turn| *turn != token);
        self.metrics.broken += u64::from(ended == Ended::Broken);
        if ended != Ended::Known {
            self.reset(connection.ports());
        }
    }

    fn reset(&mut self, ports: Ports) {
        if self.resets.len() < RESETS_MAX {
            self.resets.push_back(ports);
        }
    }

    /// A packet of the guest, with all its data.
    pub(super) fn packet(&mut self, head: &Head, data: &[u8]) {
        let ports = Ports { host: head.destination.1, guest: head.source.1 };
        let ours = head.destination.0 == HOST_CID && head.source.0 == u64::from(self.cid) && head.kind == STREAM;
        let known = self.by_ports.get(&ports).copied().filter(|_| ours);
        self.metrics.sent_bytes += data.len() as u64;
        match known {
            Some(token) => {
                let outcome = self.connections.get_mut(&token).map_or(Ok(()), |c| c.packet(head, data));
                self.after(token, outcome);
            }
            None if ours && head.op == Op::REQUEST => self.connect(ports, head),
            None => {
                self.metrics.foreign += 1;
                if head.op != Op::RESET {
                    self.reset(ports);
                }
            }
        }
    }

    /// The guest wants a port of the host's.
    fn connect(&mut self, ports: Ports, request: &Head) {
        let token = self.token();
        let free = self.connections.len() < CONNECTIONS_MAX;
        let stream = free.then(|| connect(&with_port(&self.path, ports.host))).and_then(Result::ok);
        match stream.filter(|stream| self.watch_stream(stream, token).is_ok()) {
            Some(stream) => self.insert(token, Connection::to_host(stream, ports, request)),
            None => {
                self.metrics.refused += 1;
                self.reset(ports);
            }
        }
    }

    /// The next packet for the guest: each stream has its turn.
    pub(super) fn next(&mut self) -> Option<Outgoing> {
        if let Some(ports) = self.resets.pop_front() {
            return Some(Outgoing { head: head_to_guest(self.cid, ports, Op::RESET), data: Vec::new() });
        }
        while let Some(token) = self.turns.pop_front() {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            let packet = connection.next(self.cid);
            self.give_turn(token);
            if let Some(packet) = packet {
                self.metrics.received_bytes += packet.data.len() as u64;
                return Some(packet);
            }
        }
        None
    }

    /// Whether [`Muxer::next`] may have a packet.
    pub(super) fn has_packet(&self) -> bool {
        !self.resets.is_empty() || !self.turns.is_empty()
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        // A socket that is left is found to be nobody's by who comes next.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens at a path. A socket that nobody listens on, left by a program that was killed, is replaced.
fn listen(path: &Path) -> Result<UnixListener, VsockError> {
    let error = |source| VsockError::Listen { path: path.to_owned(), source };
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path) {
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(error)?,
                _ => return Err(VsockError::InUse { path: path.to_owned() }),
            }
            UnixListener::bind(path).map_err(error)?
        }
        bound => bound.map_err(error)?,
    };
    listener.set_nonblocking(true).map_err(error)?;
    Ok(listener)
}

fn with_port(path: &Path, port: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!("_{port}"));
    name.into()
}

/// Connects without waiting: a listener whose queue is full refuses.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

fn watch(epoll: &Epoll, fd: RawFd, token: u64, events: EventSet) -> io::Result<()> {
    epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, token))
}
