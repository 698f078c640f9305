//! The local agent: what the host and the processes ask of it. Every call returns at once.

use super::asking::{Asking, goes_out_at_once};
use super::host::Host;
use super::places::{Place, Places, Stage};
use super::processes::Processes;
use super::syn_answer;
use crate::error::AgentError;
use escape_abi::message::{Flow, refusal};
use escape_abi::{GuestMessage, HostMessage, OpeningNumbers};
use escape_capsule::SliceKey;
use escape_process::channel::{Received, VERSION};
use escape_process::slot::layout::{TX_AT, TX_SIZE};
use escape_process::{Channel, Message, ProcessError, SliceMemory, SlotState, TcpState, Wire, tcp_flag, wall_us};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Messages taken per turn from one side, so that others have theirs.
const MESSAGES_PER_TURN_MAX: usize = 256;
/// Times that the answer to a SYN is said again, a second apart.
const ANSWERS_MAX: u8 = 4;
/// Cause of a slice's end that [`GuestMessage::Poisoned`] tells: its process died while it worked on it.
const PROCESS_DIED: u32 = 257;
/// Likewise: its process did not take it, after the host was told that it is plugged.
const REFUSED: u32 = 259;

/// Control pages and arena as devices that processes map, with their sizes.
pub type Devices = [(OwnedFd, u64); 2];

/// The agent.
pub struct Agent {
    pub(super) memory: SliceMemory,
    pub(super) host: Host,
    pub(super) places: Places,
    pub(super) processes: Processes,
    devices: Devices,
    service_ip: [u8; 4],
    ready: bool,
    /// Slices that end here. Bounded by the slots.
    pub(super) closing: Vec<SliceKey>,
    /// Slices whose clients are asked. Bounded by the slots.
    pub(super) asking: Vec<SliceKey>,
    /// Plugged connections whose clients may not have heard the answer to their SYN, and how often it was said here. Bounded by the slots.
    unheard: Vec<(SliceKey, u8)>,
}

impl Agent {
    /// An agent for a service with this address.
    pub fn new(memory: SliceMemory, host: Host, devices: Devices, service_ip: [u8; 4]) -> Self {
        let places = Places::new(memory.n_slots());
        Self {
            memory,
            host,
            places,
            processes: Processes::default(),
            devices,
            service_ip,
            ready: false,
            closing: Vec::new(),
            asking: Vec::new(),
            unheard: Vec::new(),
        }
    }

    /// Takes what the host has said.
    pub fn hear_host(&mut self) {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(message) = self.host.receive() else { break };
            let key = |slot, incarnation| SliceKey { slot, incarnation };
            match message {
                HostMessage::Lease { first_slot, generation } => self.places.lease(first_slot, generation),
                HostMessage::Opening { flow, numbers } => self.open(flow, numbers),
                HostMessage::Plug { slot, incarnation } => self.plug(key(slot, incarnation)),
                HostMessage::Unplug { slot, incarnation } | HostMessage::Discard { slot, incarnation } => {
                    self.drop_in_silence(key(slot, incarnation));
                    self.host.send(GuestMessage::Unplugged { slot, incarnation });
                }
                HostMessage::SlotFree { slot, incarnation } => {
                    self.drop_in_silence(key(slot, incarnation));
                    self.places.free(slot);
                }
                // A slice of a Linux process has one connection.
                HostMessage::ConnectionFree { .. } => {}
            }
        }
        self.host.heartbeat.beat();
    }

    /// The kernel has answered a SYN: its connection becomes a slice, whose first checkpoint lets the answer out. Without a free slot
    /// the answer stays where it is, and the client tries again.
    fn open(&mut self, flow: Flow, numbers: OpeningNumbers) {
        let Some(key) = self.places.allocate(flow) else { return };
        let tcp = TcpState::opened(flow, self.service_ip, numbers, wall_us());
        let (Ok(new), Some(slot)) = (SlotState::new(key, tcp), self.memory.slot(key.slot)) else { return };
        // SAFETY: a free slot of a lease of this guest: mapped, and nobody's.
        unsafe {
            slot.write(new);
            clear_state(slot.cast());
        }
        if self.with_ref(key, |_| ()).is_none() {
            // Not before the host has seen it; the client's next SYN finds another slot.
            self.places.remove(key);
            self.places.free(key.slot);
            return;
        }
        let SliceKey { slot, incarnation } = key;
        self.host.send(GuestMessage::Bind { slot, incarnation, flow, place: 0, serial: 0 });
    }

    /// The slice's bytes are in its slot: its connection is made of them and given to the process that serves its port.
    fn plug(&mut self, key: SliceKey) {
        if let Err(error) = self.restore(key) {
            eprintln!("escape-agent: slice {key} cannot be plugged: {error}");
            self.plugged(key, refusal::BAD_HEADER);
        }
    }

    fn restore(&mut self, key: SliceKey) -> Result<(), AgentError> {
        let slot = self.memory.slot(key.slot).ok_or(AgentError::ControlPages)?;
        // SAFETY: the host has put the slice's bytes into the slot, and no process has it yet.
        let state = unsafe { slot.read() };
        state.check(key)?;
        if !self.places.has_room_for(key, &state.tcp.flow) {
            self.plugged(key, refusal::BUSY);
            return Ok(());
        }
        // SAFETY: as above, and the numbers are sound.
        let unsent = unsafe { output_of(slot.cast(), &state.tcp) };
        let capsule = state.tcp.capsule(unsent, wall_us());
        let (flow, since) = (state.tcp.flow, Instant::now());
        if goes_out_at_once(&state.tcp) {
            let socket = capsule.restore().map_err(ProcessError::from)?;
            self.with_ref(key, |state| state.tcp.plugged());
            self.places.put(Place { key, flow, stage: Stage::Unserved { socket }, told: false, since });
            self.serve_restored(key, None)?;
        } else {
            let asking = Asking::begin(&capsule).map_err(ProcessError::from)?;
            self.with_ref(key, |state| state.tcp.plugged());
            self.places.put(Place { key, flow, stage: Stage::Asking { asking }, told: true, since });
            self.asking.push(key);
            // From here on its client's answers come through.
            self.plugged(key, 0);
        }
        if state.tcp.is_unheard() {
            self.unheard.push((key, 0));
            self.answer_unheard();
        }
        Ok(())
    }

    /// A restored slice goes to whom it concerns: the process of its port, or, if its program has written its last byte, nobody but this
    /// agent. `socket`: in place of the one that its place has.
    pub(super) fn serve_restored(&mut self, key: SliceKey, socket: Option<OwnedFd>) -> Result<(), ProcessError> {
        // SAFETY: a slot of the arena that no process has; a copy.
        let state = self.memory.slot(key.slot).map(|slot| unsafe { slot.read() });
        let (Some(place), Some(state)) = (self.places.get_mut(key), state) else { return Ok(()) };
        let stage = std::mem::replace(&mut place.stage, Stage::Over { socket: None });
        let Some(socket) = socket.or(if let Stage::Unserved { socket } = stage { Some(socket) } else { None }) else {
            return Ok(());
        };
        if !state.tcp.is(tcp_flag::END_WRITTEN) {
            place.stage = Stage::Unserved { socket };
            self.give_to_process(key);
            return Ok(());
        }
        place.stage = Stage::Closing { wire: Wire::new(socket, state.tcp.written)? };
        let told = std::mem::replace(&mut place.told, true);
        self.closing.push(key);
        if !told {
            self.plugged(key, 0);
        }
        Ok(())
    }

    /// Says the answer to their SYN to clients that may not have heard it, a few times.
    pub fn answer_unheard(&mut self) {
        let Self { memory, unheard, .. } = self;
        unheard.retain_mut(|(key, said)| {
            // SAFETY: a slot of the arena; a copy of numbers that a process may be changing, of which any value will do.
            let state = memory.slot(key.slot).map(|slot| unsafe { slot.read_volatile() });
            let Some(tcp) = state.map(|state| state.tcp).filter(TcpState::is_unheard) else { return false };
            let clock = tcp.capsule(Vec::new(), wall_us()).options.timestamp.unwrap_or(0);
            if let Err(errno) = syn_answer::say(&tcp, clock) {
                eprintln!("escape-agent: slice {key}: its client's SYN cannot be answered again: {errno}");
            }
            *said += 1;
            *said < ANSWERS_MAX
        });
    }

    /// A restored slice goes to the process that serves its port, now or when there is one.
    fn give_to_process(&mut self, key: SliceKey) {
        let Self { places, processes, .. } = self;
        let Some(place) = places.get_mut(key) else { return };
        let Some(process) = processes.of_port(place.flow.service_port) else { return };
        let stage = std::mem::replace(&mut place.stage, Stage::Over { socket: None });
        let Stage::Unserved { socket } = stage else {
            place.stage = stage;
            return;
        };
        // A process that does not hear is found dead by its end.
        let _ = process.channel.send(Message::Plug { slice: key }, &[socket.as_fd()]);
        place.stage = Stage::Plugging { process: process.id, socket };
    }

    fn plugged(&mut self, key: SliceKey, status: u32) {
        let SliceKey { slot, incarnation } = key;
        self.host.send(GuestMessage::Plugged { slot, incarnation, status });
    }

    /// The slice is nobody's here any more. Its connection ends without a word.
    fn drop_in_silence(&mut self, key: SliceKey) {
        let Some(place) = self.places.remove(key) else { return };
        let (socket, process) = match place.stage {
            Stage::Running { process, socket } | Stage::Plugging { process, socket } => (Some(socket), Some(process)),
            Stage::Unserved { socket } => (Some(socket), None),
            Stage::Asking { asking } => (Some(asking.into_socket()), None),
            Stage::Closing { wire } => (wire.as_fd().try_clone_to_owned().ok(), None),
            Stage::Over { socket } => (socket, None),
            Stage::Opening => (None, None),
        };
        if let Some(socket) = socket
            && let Err(error) = escape_tcp::silence(socket.as_fd())
        {
            eprintln!("escape-agent: slice {key}: {error}");
        }
        if let Some(process) = process.and_then(|id| self.processes.get(id)) {
            let _ = process.channel.send(Message::Discard { slice: key }, &[]);
        }
    }

    /// Takes what a process has said; an error: it is gone, or talks nonsense.
    pub fn hear_process(&mut self, id: u64) -> Result<(), AgentError> {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(process) = self.processes.get(id) else { return Ok(()) };
            let channel = process.channel.clone();
            let Some(Received { message, descriptors }) = channel.receive(false)? else { return Ok(()) };
            match message {
                Message::Hello { version, ports } => self.welcome(id, &channel, version, &ports)?,
                Message::Adopt { flow } => self.adopt(id, &channel, flow, descriptors)?,
                Message::Changed { slice } if self.serves(id, slice) => {
                    self.host.send(GuestMessage::Changed { slot: slice.slot });
                }
                Message::Closing { slice, sent } if self.serves(id, slice) => self.begin_closing(slice, sent)?,
                Message::Plugged { slice, status } => self.on_plugged(id, slice, status),
                // Of a slice that was discarded meanwhile.
                Message::Changed { .. } | Message::Closing { .. } => {}
                _ => return Err(AgentError::Nonsense),
            }
        }
        Ok(())
    }

    fn welcome(&mut self, id: u64, channel: &Channel, version: u32, ports: &[u16]) -> Result<(), AgentError> {
        if version != VERSION {
            return Err(AgentError::Nonsense);
        }
        let [(control, control_bytes), (arena, arena_bytes)] = &self.devices;
        let welcome = Message::Welcome { control_bytes: *control_bytes, arena_bytes: *arena_bytes };
        channel.send(welcome, &[control.as_fd(), arena.as_fd()])?;
        self.processes.register(id, ports);
        if !std::mem::replace(&mut self.ready, true) {
            self.host.send(GuestMessage::Ready);
        }
        for key in self.places.keys(|place| matches!(place.stage, Stage::Unserved { .. })) {
            self.give_to_process(key);
        }
        Ok(())
    }

    fn adopt(&mut self, id: u64, channel: &Channel, flow: Flow, descriptors: Vec<OwnedFd>) -> Result<(), AgentError> {
        let place = self.places.of_flow(&flow).filter(|place| matches!(place.stage, Stage::Opening));
        let answer = match (place, descriptors.into_iter().next()) {
            (Some(place), Some(socket)) => {
                place.stage = Stage::Running { process: id, socket };
                Message::Adopted { slice: place.key }
            }
            _ => Message::NotAdopted { flow },
        };
        Ok(channel.send(answer, &[])?)
    }

    fn on_plugged(&mut self, id: u64, key: SliceKey, status: u32) {
        let Some(place) = self.places.get_mut(key) else { return };
        let stage = std::mem::replace(&mut place.stage, Stage::Over { socket: None });
        match stage {
            Stage::Plugging { process, socket } if process == id => {
                place.stage = Stage::Running { process, socket };
                let told = std::mem::replace(&mut place.told, true);
                if !told {
                    self.plugged(key, status);
                }
                if status != 0 {
                    self.drop_in_silence(key);
                    if told {
                        let SliceKey { slot, incarnation } = key;
                        self.host.send(GuestMessage::Poisoned { slot, incarnation, cause: REFUSED });
                    }
                }
            }
            other => place.stage = other,
        }
    }

    fn serves(&mut self, id: u64, key: SliceKey) -> bool {
        self.places
            .get_mut(key)
            .is_some_and(|place| matches!(place.stage, Stage::Running { process, .. } if process == id))
    }

    fn begin_closing(&mut self, key: SliceKey, sent: u64) -> Result<(), AgentError> {
        let Some(place) = self.places.get_mut(key) else { return Ok(()) };
        if let Stage::Running { socket, .. } = std::mem::replace(&mut place.stage, Stage::Over { socket: None }) {
            (place.stage, place.since) = (Stage::Closing { wire: Wire::new(socket, sent)? }, Instant::now());
            self.closing.push(key);
            self.go_on_closing(key);
        }
        Ok(())
    }

    /// A process is gone: its slices are released, and nothing else is.
    pub fn process_gone(&mut self, id: u64) {
        self.processes.remove(id);
        let of_process = |place: &Place| match place.stage {
            Stage::Running { process, .. } | Stage::Plugging { process, .. } => process == id,
            _ => false,
        };
        for key in self.places.keys(of_process) {
            self.release(key);
        }
    }

    /// A slice whose process has died. What it was at work on is torn; any other ends with a reset, which its client hears.
    fn release(&mut self, key: SliceKey) {
        let SliceKey { slot, incarnation } = key;
        if !self.memory.refs().word(slot).quiescent() {
            self.drop_in_silence(key);
            return self.host.send(GuestMessage::Poisoned { slot, incarnation, cause: PROCESS_DIED });
        }
        let Some(place) = self.places.get_mut(key) else { return };
        let stage = std::mem::replace(&mut place.stage, Stage::Over { socket: None });
        if let Stage::Running { socket, .. } | Stage::Plugging { socket, .. } = stage {
            // Its process had the only other descriptor: now the kernel resets the connection.
            let _ = rustix::net::sockopt::set_socket_linger(&socket, Some(std::time::Duration::ZERO));
        }
        self.publish_end(key);
    }

    /// The slice's last generation: its connection is over.
    pub(super) fn publish_end(&mut self, key: SliceKey) {
        let SliceKey { slot, incarnation } = key;
        self.with_ref(key, |state| state.tcp.flags |= tcp_flag::OVER);
        self.host.send(GuestMessage::Close { slot, incarnation });
    }

    /// Changes a slice that no process has, and publishes it. `None`: the host holds it for too long.
    pub(super) fn with_ref<R>(&mut self, key: SliceKey, change: impl FnOnce(&mut SlotState) -> R) -> Option<R> {
        const TRIES_MAX: u32 = 10_000;
        let slot = self.memory.slot(key.slot)?;
        let mut tries = 0;
        while self.memory.refs().get_ref(key.slot).is_err() {
            tries += 1;
            if tries > TRIES_MAX {
                return None;
            }
            std::thread::yield_now();
        }
        // SAFETY: a reference is held, and by the slice's stage no process works on it.
        let state = unsafe { &mut *slot };
        let said = change(state);
        self.memory.put_ref(key.slot, || state.meta());
        Some(said)
    }
}

/// A new slice's program finds zeros.
///
/// # Safety
/// The slot is mapped and nobody's.
unsafe fn clear_state(slot: *mut u8) {
    use escape_process::slot::layout::{STATE_AT, STATE_SIZE};
    // SAFETY: inside the slot.
    unsafe { slot.add(STATE_AT).write_bytes(0, STATE_SIZE) };
}

/// Output that the client is not known to have.
///
/// # Safety
/// The slot is mapped, nobody writes to it, and its numbers are sound.
unsafe fn output_of(slot: *const u8, tcp: &TcpState) -> Vec<u8> {
    // SAFETY: inside the slot.
    let ring = unsafe { std::slice::from_raw_parts(slot.add(TX_AT), TX_SIZE) };
    let start = (tcp.acknowledged % TX_SIZE as u64) as usize;
    ring.iter().cycle().skip(start).take(tcp.unacknowledged()).copied().collect()
}
