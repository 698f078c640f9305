//! A process that serves slices.

use crate::bell::Bell;
use crate::channel::{Channel, Message, PORTS_MAX, Received, SLICES_MAX, SOCKET_PATH, VERSION};
use crate::connection::Connection;
use crate::devices::Device;
use crate::{ProcessError, SliceMemory};
use escape_abi::message::{Flow, refusal};
use escape_capsule::SliceKey;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The agent answers within this, or is taken for gone.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What the agent asks of the process.
#[derive(Debug)]
pub enum Upcall {
    /// A slice goes on here: serve it, and work on it once now.
    Plugged(Connection),
    /// A slice is not this process's any more: [`Connection::forget`] it. May be said twice, if the agent was started again in between.
    Discarded(SliceKey),
}

/// Where the agent listens.
fn agent_socket() -> PathBuf {
    std::env::var_os("ESCAPE_AGENT").map_or_else(|| PathBuf::from(SOCKET_PATH), PathBuf::from)
}

/// The process's tie to the agent.
#[derive(Debug)]
pub struct Service {
    agent: Channel,
    memory: SliceMemory,
    /// Rings while there is something in `waiting` or `taken`.
    bell: Bell,
    /// What came while an answer was waited for. Bounded by the slots of the arena.
    waiting: VecDeque<Received>,
    /// Slices that came with the last message, and were not told yet. At most [`SLICES_MAX`].
    taken: VecDeque<Connection>,
    /// Slices that came from elsewhere: slot and incarnation. An agent that took over from another may give them once more.
    plugged: HashMap<u32, u64>,
}

impl Service {
    /// Registers this process for its ports, at most four, with the agent at its usual place or at that named by `ESCAPE_AGENT`.
    ///
    /// # Errors
    /// There is no agent, or this is no guest of a cell.
    pub fn register(ports: &[u16]) -> Result<Self, ProcessError> {
        Self::register_at(&agent_socket(), ports)
    }

    /// The same with an agent at another place.
    ///
    /// # Errors
    /// As for [`Self::register`].
    pub fn register_at(path: &Path, ports: &[u16]) -> Result<Self, ProcessError> {
        let agent = Channel::connect(path)?;
        let (memory, agent) = hello(agent, ports, |control, arena| SliceMemory::map(&control, &arena))?;
        Self::of(agent, memory)
    }

    /// The same over a connected channel, with memory that is mapped already: for tests.
    ///
    /// # Errors
    /// As for [`Self::register`].
    pub fn over(agent: Channel, memory: SliceMemory, ports: &[u16]) -> Result<Self, ProcessError> {
        let (memory, agent) = hello(agent, ports, |_, _| Ok(memory))?;
        Self::of(agent, memory)
    }

    fn of(agent: Channel, memory: SliceMemory) -> Result<Self, ProcessError> {
        let bell = Bell::of(&agent)?;
        let (waiting, taken, plugged) = (VecDeque::new(), VecDeque::new(), HashMap::new());
        Ok(Self { agent, memory, bell, waiting, taken, plugged })
    }

    /// A connection that was accepted on one of the ports becomes a slice.
    ///
    /// # Errors
    /// The agent has no slice for it: it did not come through the cell's edge, or all slots are taken. The connection is dropped.
    pub fn adopt(&mut self, stream: TcpStream) -> Result<Connection, ProcessError> {
        let flow = flow_of(&stream)?;
        let socket = OwnedFd::from(stream);
        self.agent.send(Message::Adopt { flow }, &[socket.as_fd()])?;
        loop {
            let Some(received) = self.agent.receive(true)? else { return Err(ProcessError::Protocol) };
            match received.message {
                // An agent that took over from another may answer once more: not for this connection.
                Message::Adopted { slice } if self.flow_in(slice) != Some(flow) => {}
                Message::NotAdopted { flow: other } if other != flow => {}
                Message::Welcome { .. } => {}
                Message::Adopted { slice } => {
                    return Connection::new(slice, self.memory, socket, false, self.agent.clone());
                }
                Message::NotAdopted { .. } => {
                    let peer = format!("{}:{}", std::net::Ipv4Addr::from(flow.ip), flow.port);
                    return Err(ProcessError::NotAdopted { peer, why: "the agent knows no slice of it" });
                }
                _ => {
                    self.waiting.push_back(received);
                    self.bell.set(true)?;
                }
            }
        }
    }

    /// The next of what the agent asks; `None`: nothing now. The descriptor is readable when there is something.
    ///
    /// # Errors
    /// The agent is gone.
    pub fn upcall(&mut self) -> Result<Option<Upcall>, ProcessError> {
        let upcall = self.next_upcall()?;
        self.bell.set(!self.waiting.is_empty() || !self.taken.is_empty())?;
        Ok(upcall)
    }

    fn next_upcall(&mut self) -> Result<Option<Upcall>, ProcessError> {
        loop {
            if let Some(connection) = self.taken.pop_front() {
                return Ok(Some(Upcall::Plugged(connection)));
            }
            let next = match self.waiting.pop_front() {
                Some(received) => Some(received),
                None => self.agent.receive(false)?,
            };
            let Some(Received { message, descriptors }) = next else { return Ok(None) };
            match message {
                Message::Plug { slices } => self.plug(slices, descriptors)?,
                Message::Discard { slice } => {
                    if self.plugged.get(&slice.slot) == Some(&slice.incarnation) {
                        self.plugged.remove(&slice.slot);
                    }
                    return Ok(Some(Upcall::Discarded(slice)));
                }
                // An agent that took over from another may answer once more.
                Message::Welcome { .. } | Message::Adopted { .. } | Message::NotAdopted { .. } => {}
                _ => return Err(ProcessError::Protocol),
            }
        }
    }

    /// The connection of a slice.
    fn flow_in(&self, slice: SliceKey) -> Option<Flow> {
        let slot = self.memory.slot(slice.slot)?;
        // SAFETY: inside the arena, by the line before; a copy of numbers of which any value will do.
        let state = unsafe { slot.read_volatile() };
        (state.key() == slice).then_some(state.tcp.flow)
    }

    fn plug(&mut self, slices: [Option<SliceKey>; SLICES_MAX], sockets: Vec<OwnedFd>) -> Result<(), ProcessError> {
        let mut sockets = sockets.into_iter();
        let mut answers = [None; SLICES_MAX];
        for (slice, answer) in slices.into_iter().flatten().zip(&mut answers) {
            let socket = sockets.next();
            if self.plugged.insert(slice.slot, slice.incarnation) == Some(slice.incarnation) {
                continue;
            }
            let connection = socket.map(|socket| Connection::new(slice, self.memory, socket, true, self.agent.clone()));
            let status = match connection {
                Some(Ok(connection)) => {
                    self.taken.push_back(connection);
                    0
                }
                Some(Err(_)) => refusal::BAD_HEADER,
                // The kernel leaves out those for which there is no room; the slices before have theirs.
                None => refusal::NO_DESCRIPTOR,
            };
            *answer = Some((slice, u16::try_from(status).unwrap_or(u16::MAX)));
        }
        if answers.iter().any(Option::is_some) {
            self.agent.send(Message::Plugged { slices: answers }, &[])
        } else {
            Ok(())
        }
    }
}

impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn hello(
    agent: Channel,
    ports: &[u16],
    map: impl FnOnce(Device, Device) -> Result<SliceMemory, ProcessError>,
) -> Result<(SliceMemory, Channel), ProcessError> {
    let mut all = [0; PORTS_MAX];
    all.iter_mut().zip(ports).for_each(|(to, from)| *to = *from);
    agent.patience(ANSWER_MAX)?;
    agent.send(Message::Hello { version: VERSION, ports: all }, &[])?;
    let Some(Received { message: Message::Welcome { control_bytes, arena_bytes }, descriptors }) =
        agent.receive(true)?
    else {
        return Err(ProcessError::Protocol);
    };
    let mut files = descriptors.into_iter().map(File::from);
    let (Some(control), Some(arena)) = (files.next(), files.next()) else { return Err(ProcessError::Protocol) };
    let bytes = |bytes: u64| usize::try_from(bytes).map_err(|_| ProcessError::Protocol);
    let memory = map(Device::of(control, bytes(control_bytes)?), Device::of(arena, bytes(arena_bytes)?))?;
    Ok((memory, agent))
}

/// Who is at both ends.
fn flow_of(stream: &TcpStream) -> Result<Flow, ProcessError> {
    let (peer, local) = (stream.peer_addr(), stream.local_addr());
    match (peer.map_err(ProcessError::call("getpeername"))?, local.map_err(ProcessError::call("getsockname"))?) {
        (SocketAddr::V4(peer), SocketAddr::V4(local)) => {
            Ok(Flow { ip: peer.ip().octets(), port: peer.port(), service_port: local.port() })
        }
        (peer, _) => Err(ProcessError::NotAdopted { peer: peer.to_string(), why: "it is not over IPv4" }),
    }
}
