//! The server that this library was loaded into.

use crate::connections::Served;
use escape_process::{Service, Upcall};
use rustix::event::{PollFd, PollFlags, poll};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Slices from elsewhere that wait for the server's `accept`.
const WAITING_MAX: usize = 65_536;
/// How often the server is told that something waits for its `accept`.
const KNOCK_EVERY: Duration = Duration::from_millis(20);
/// How long a connection to the server itself may take.
const KNOCK_MAX: Duration = Duration::from_millis(500);

thread_local! {
    /// This library is at work: calls that it makes itself are the system's.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The server.
#[derive(Debug, Default)]
pub struct Server {
    service: Option<Service>,
    /// Listeners on its ports.
    listeners: Vec<RawFd>,
    served: HashMap<RawFd, Served>,
    slots: HashMap<u32, RawFd>,
    /// What the server said of a slice's descriptor to its epoll: which one, and its word for the descriptor.
    polled: HashMap<RawFd, (RawFd, u64)>,
    /// Descriptors of slices that have come from elsewhere.
    waiting: VecDeque<RawFd>,
}

static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();

/// The server, if this thread does not have it already.
pub fn enter() -> Option<Entered> {
    if INSIDE.replace(true) {
        return None;
    }
    let server = SERVER.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    Some(Entered { server })
}

/// The server, for one call.
pub struct Entered {
    /// It.
    pub server: MutexGuard<'static, Server>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// `ESCAPE_PORTS`: numbers with commas between.
fn is_of_ports(port: u16) -> bool {
    let ports = std::env::var("ESCAPE_PORTS").unwrap_or_default();
    ports.split(',').filter_map(|port| port.trim().parse::<u16>().ok()).any(|wanted| wanted == port)
}

/// The address of a socket of IPv4.
fn local_address(socket: RawFd) -> Option<SocketAddrV4> {
    // SAFETY: only asked for its name; a number that is no socket is refused by the kernel.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let address = rustix::net::getsockname(socket).ok()?;
    SocketAddrV4::try_from(address).ok()
}

impl Server {
    /// The server listens on a socket: if it is one of the ports, it is registered with the agent.
    pub fn listens(&mut self, socket: RawFd) {
        let Some(address) = local_address(socket).filter(|address| is_of_ports(address.port())) else { return };
        if self.service.is_none() {
            match Service::register(&[address.port()]) {
                Ok(service) => {
                    knock_when_asked(&service, address);
                    self.service = Some(service);
                }
                Err(error) => return eprintln!("escape-preload: connections are not slices: {error}"),
            }
        }
        self.listeners.push(socket);
    }

    /// Whether this is one of its listeners.
    pub fn is_listener(&self, socket: RawFd) -> bool {
        self.listeners.contains(&socket)
    }

    /// A slice from elsewhere that waits for `accept`, as a descriptor.
    pub fn next_plugged(&mut self) -> Option<RawFd> {
        self.hear();
        while let Some(socket) = self.waiting.pop_front() {
            if self.served.contains_key(&socket) {
                return Some(socket);
            }
        }
        None
    }

    /// Whether one waits.
    pub fn has_plugged(&mut self) -> bool {
        self.hear();
        !self.waiting.is_empty()
    }

    /// Takes what the agent asks.
    fn hear(&mut self) {
        let Some(service) = &mut self.service else { return };
        let mut upcalls = Vec::new();
        while let Ok(Some(upcall)) = service.upcall() {
            upcalls.push(upcall);
        }
        for upcall in upcalls {
            match upcall {
                Upcall::Plugged(connection) if self.waiting.len() < WAITING_MAX => {
                    let (socket, slot) = (connection.as_fd().as_raw_fd(), connection.key().slot);
                    // One that was in the midst of an answer is dropped, and ends.
                    if let Some(served) = Served::new(connection) {
                        self.add(socket, slot, served);
                        self.waiting.push_back(socket);
                    }
                }
                Upcall::Plugged(_) => {}
                Upcall::Discarded(key) => {
                    if let Some(served) = self.slots.remove(&key.slot).and_then(|socket| self.served.remove(&socket)) {
                        served.forget();
                    }
                }
            }
        }
    }

    fn add(&mut self, socket: RawFd, slot: u32, served: Served) {
        self.slots.insert(slot, socket);
        self.served.insert(socket, served);
    }

    /// A connection was accepted; false: it is no slice, and closed.
    pub fn adopt(&mut self, socket: RawFd) -> bool {
        let Some(service) = &mut self.service else { return true };
        // SAFETY: the kernel has just made it for this call, and nobody else has it.
        let stream = unsafe { TcpStream::from_raw_fd(socket) };
        // This library's own knock: there is something of the agent's, and nothing to serve.
        if matches!(stream.peer_addr(), Ok(SocketAddr::V4(peer)) if peer.ip().is_loopback()) && is_knock(&stream) {
            return false;
        }
        match service.adopt(stream) {
            Ok(connection) => {
                let slot = connection.key().slot;
                match Served::new(connection) {
                    Some(served) => self.add(socket, slot, served),
                    None => return false,
                }
                true
            }
            Err(error) => {
                eprintln!("escape-preload: {error}");
                false
            }
        }
    }

    /// The slice behind a descriptor.
    pub fn served(&mut self, socket: RawFd) -> Option<&mut Served> {
        self.served.get_mut(&socket)
    }

    /// The server has closed a descriptor; true: it was a slice's, and is closed.
    pub fn closes(&mut self, socket: RawFd) -> bool {
        self.listeners.retain(|listener| *listener != socket);
        let Some(mut served) = self.served.remove(&socket) else { return false };
        self.slots.retain(|_, other| *other != socket);
        self.polled.remove(&socket);
        served.close();
        true
    }

    /// The server is about to wait. Descriptors of slices that have input which only this library knows of.
    pub fn waits(&mut self) -> Vec<RawFd> {
        self.served.values_mut().for_each(Served::commit);
        self.served.iter().filter(|(_, served)| served.has_unseen()).map(|(socket, _)| *socket).collect()
    }

    /// The server told an epoll of a descriptor.
    pub fn polls(&mut self, poll: RawFd, socket: RawFd, word: u64) {
        if self.served.contains_key(&socket) {
            self.polled.insert(socket, (poll, word));
        }
    }

    /// Its words for those of these descriptors that this epoll knows.
    pub fn words(&self, poll: RawFd, sockets: &[RawFd]) -> Vec<u64> {
        let known = sockets.iter().filter_map(|socket| self.polled.get(socket));
        known.filter(|(of, _)| *of == poll).map(|(_, word)| *word).collect()
    }
}

/// Ports of this library's own connections to the server.
static KNOCKS: Mutex<Vec<u16>> = Mutex::new(Vec::new());

fn is_knock(stream: &TcpStream) -> bool {
    let mut knocks = KNOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    let port = stream.peer_addr().map_or(0, |peer| peer.port());
    let before = knocks.len();
    knocks.retain(|knock| *knock != port);
    knocks.len() != before
}

/// The server polls its listener, not the agent: when the agent has something, this calls the server, whose `accept` looks.
fn knock_when_asked(service: &Service, listener: SocketAddrV4) {
    let Ok(agent) = service.as_fd().try_clone_to_owned() else { return };
    let ip = if listener.ip().is_unspecified() { Ipv4Addr::LOCALHOST } else { *listener.ip() };
    let address = SocketAddr::V4(SocketAddrV4::new(ip, listener.port()));
    std::thread::spawn(move || {
        INSIDE.set(true);
        loop {
            let mut asked = [PollFd::new(&agent, PollFlags::IN)];
            if poll(&mut asked, None).is_err() {
                continue;
            }
            if asked.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)) {
                return;
            }
            knock(address);
            std::thread::sleep(KNOCK_EVERY);
        }
    });
}

fn knock(address: SocketAddr) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
    // Bound first, so that its port is known before the server can have accepted it.
    let Ok(socket) = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None) else { return };
    if bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let Some(own) = getsockname(&socket).ok().and_then(|own| SocketAddrV4::try_from(own).ok()) else { return };
    let _ = rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(KNOCK_MAX));
    KNOCKS.lock().unwrap_or_else(PoisonError::into_inner).push(own.port());
    let _ = rustix::net::connect(&socket, &address);
}
