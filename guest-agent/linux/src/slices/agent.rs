//! The local agent: what the host asks of it. Every call returns at once. ([`super::serving`]: what processes ask.)

use super::ahead::Ahead;
use super::asking::{Asking, goes_out_at_once};
use super::book::{Phase, Speaker};
use super::host::Host;
use super::places::{Place, Places, Stage};
use super::processes::{Processes, say};
use super::syn_answer;
use crate::error::AgentError;
use crate::keeping::{Kept, Name};
use escape_abi::message::{Flow, refusal};
use escape_abi::{GuestMessage, HostMessage, OpeningNumbers, RingEntry};
use escape_capsule::SliceKey;
use escape_process::slot::layout::{TX_AT, TX_SIZE};
use escape_process::{Message, ProcessError, SliceMemory, SlotState, TcpState, Wire, tcp_flag, wall_us};
use escape_tcp::TcpCapsule;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Messages taken per turn from one side, so that others have theirs.
pub(super) const MESSAGES_PER_TURN_MAX: usize = 256;
/// Times that the answer to a SYN is said again, a second apart.
const ANSWERS_MAX: u8 = 4;
/// Control pages and arena as devices that processes map, with their sizes.
pub type Devices = [(OwnedFd, u64); 2];

/// The agent.
pub struct Agent {
    pub(super) memory: SliceMemory,
    pub(super) host: Host,
    pub(super) places: Places,
    pub(super) processes: Processes,
    /// What outlives this agent.
    pub(super) kept: Kept,
    pub(super) devices: Devices,
    pub(super) service_ip: [u8; 4],
    /// Connections of slices whose turn comes.
    pub(super) ahead: Ahead,
    /// Slices that a process has and has not heard of: that process, and they. Fewer than one message tells of.
    pub(super) given: Vec<(u64, SliceKey)>,
    /// Slices that end here. Bounded by the slots.
    pub(super) closing: Vec<SliceKey>,
    /// Slices whose clients are asked. Bounded by the slots.
    pub(super) asking: Vec<SliceKey>,
    /// Plugged connections whose clients may not have heard the answer to their SYN, and how often it was said here. Bounded by the slots.
    pub(super) unheard: Vec<(SliceKey, u8)>,
}

impl Agent {
    /// Takes what the host has said.
    pub fn hear_host(&mut self) {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            self.make_ahead();
            let Some(message) = self.host.receive() else { break };
            self.ahead.pass();
            let RingEntry { kind, word: [a, b, c, d, e, f, g] } = message.into();
            self.places.book.begin(Speaker::Host, [kind, a, b, c, d, e, f, g]);
            self.on_host(message);
            self.places.book.done();
        }
        self.tell_given();
        self.host.heartbeat.beat();
    }

    pub(super) fn on_host(&mut self, message: HostMessage) {
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

    /// The kernel has answered a SYN: its connection becomes a slice, whose first checkpoint lets the answer out. Without a free slot
    /// the answer stays where it is, and the client tries again.
    fn open(&mut self, flow: Flow, numbers: OpeningNumbers) {
        let Some(key) = self.places.allocate(flow) else { return };
        let tcp = TcpState::opened(flow, self.service_ip, numbers, wall_us());
        let (Ok(new), Some(slot)) = (SlotState::new(key, tcp), self.memory.slot(key.slot)) else { return };
        // SAFETY: a free slot of a lease of this guest: mapped, and nobody's.
        unsafe { slot.write(new) };
        if self.with_ref(key, |_| ()).is_none() {
            // Not before the host has seen it; the client's next SYN finds another slot.
            self.places.remove(key);
            self.places.free(key.slot);
            return;
        }
        self.bind(key, flow);
    }

    pub(super) fn bind(&mut self, key: SliceKey, flow: Flow) {
        let SliceKey { slot, incarnation } = key;
        self.host.send(GuestMessage::Bind { slot, incarnation, flow, place: 0, serial: 0 });
    }

    /// The slice's bytes are in its slot: its connection is made of them and given to the process that serves its port.
    pub(super) fn plug(&mut self, key: SliceKey) {
        if let Err(error) = self.restore(key) {
            eprintln!("escape-agent: slice {key} cannot be plugged: {error}");
            if self.places.at(key.slot).is_none() {
                // It may have been made before that failed.
                self.kept.forget(Name::Connection(key.slot));
            }
            self.plugged(key, refusal::BAD_HEADER);
        }
    }

    fn restore(&mut self, key: SliceKey) -> Result<(), AgentError> {
        let state = self.state_of(key)?;
        let ahead = self.ahead.take(key);
        if !self.places.has_room_for(key, &state.tcp.flow) {
            if ahead.is_some() && self.places.at(key.slot).is_none() {
                self.kept.forget(Name::Connection(key.slot));
            }
            self.plugged(key, refusal::BUSY);
            return Ok(());
        }
        let (flow, since) = (state.tcp.flow, Instant::now());
        let name = Name::Connection(key.slot);
        let stage = if let Some(made) = ahead {
            stage_of_restored(&state.tcp, made.begin()?)?
        } else if goes_out_at_once(&state.tcp) {
            let socket = self.capsule_at(key.slot, &state.tcp).restore().map_err(ProcessError::from)?;
            self.kept.keep(name, [0; 4], socket.as_fd());
            stage_of_restored(&state.tcp, socket)?
        } else {
            let asking = Asking::begin(&self.capsule_at(key.slot, &state.tcp)).map_err(ProcessError::from)?;
            self.kept.keep(name, [0; 4], asking.socket());
            Stage::Asking { asking }
        };
        self.with_ref(key, |state| state.tcp.plugged());
        self.places.put(Place { key, flow, stage, told: false, since });
        self.restored(key);
        if state.tcp.is_unheard() {
            self.unheard.push((key, 0));
            self.answer_unheard();
        }
        Ok(())
    }

    /// A slice that the host has put into its slot.
    pub(super) fn state_of(&self, key: SliceKey) -> Result<SlotState, AgentError> {
        let slot = self.memory.slot(key.slot).ok_or(AgentError::ControlPages)?;
        // SAFETY: the host has put the slice's bytes into the slot, and no process has it yet.
        let state = unsafe { slot.read() };
        state.check(key)?;
        Ok(state)
    }

    /// Its connection, with its output that the client is not known to have.
    pub(super) fn capsule_at(&self, slot: u32, tcp: &TcpState) -> TcpCapsule {
        // SAFETY: as in `state_of`, which has found the numbers sound.
        let unsent = self.memory.slot(slot).map(|slot| unsafe { output_of(slot.cast(), tcp) });
        tcp.capsule(unsent.unwrap_or_default(), wall_us())
    }

    /// The connection was made again, after its client was asked.
    pub(super) fn serve_restored(&mut self, key: SliceKey, socket: OwnedFd) -> Result<(), ProcessError> {
        self.kept.keep(Name::Connection(key.slot), [0; 4], socket.as_fd());
        // SAFETY: a slot of the arena that no process has; a copy.
        let Some(state) = self.memory.slot(key.slot).map(|slot| unsafe { slot.read() }) else { return Ok(()) };
        let stage = stage_of_restored(&state.tcp, socket)?;
        self.places.set(key, stage);
        self.restored(key);
        Ok(())
    }

    /// A restored slice goes to whom it concerns: the process of its port, or, if its program has written its last byte, nobody but this
    /// agent. The host hears that it is plugged when somebody has it, or at once if its client must answer first.
    pub(super) fn restored(&mut self, key: SliceKey) {
        match self.places.get_mut(key).map(|place| place.stage.phase().0) {
            Some(Phase::Unserved) => self.give_to_process(key),
            Some(Phase::Asking) => {
                self.asking.push(key);
                self.tell_plugged(key, 0);
            }
            Some(Phase::Closing) => {
                self.closing.push(key);
                self.tell_plugged(key, 0);
            }
            _ => {}
        }
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

    /// The host hears once that a slice is plugged, or is not.
    pub(super) fn tell_plugged(&mut self, key: SliceKey, status: u32) {
        if self.places.tell(key) {
            self.plugged(key, status);
            self.places.has_told(key);
        }
    }

    pub(super) fn plugged(&mut self, key: SliceKey, status: u32) {
        let SliceKey { slot, incarnation } = key;
        self.host.send(GuestMessage::Plugged { slot, incarnation, status });
    }

    /// The slice is nobody's here any more. Its connection ends without a word. The book has it to the last, so that a successor of this agent
    /// can do all of it once more.
    pub(super) fn drop_in_silence(&mut self, key: SliceKey) {
        let Some(place) = self.places.get_mut(key) else { return };
        if let Some(socket) = place.stage.socket()
            && let Err(error) = escape_tcp::silence(socket)
        {
            eprintln!("escape-agent: slice {key}: {error}");
        }
        let process = place.stage.phase().1;
        let process = process.filter(|_| self.has_heard_of(key)).and_then(|id| self.processes.get(id));
        if let Some(process) = process {
            say(&process.channel, Message::Discard { slice: key }, &[]);
        }
        self.kept.forget(Name::Connection(key.slot));
        self.places.remove(key);
    }

    /// The slice cannot go on here, nor anywhere.
    pub(super) fn give_up(&mut self, key: SliceKey, cause: u32) {
        self.drop_in_silence(key);
        let SliceKey { slot, incarnation } = key;
        self.host.send(GuestMessage::Poisoned { slot, incarnation, cause });
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
        #[cfg(test)]
        super::crash::step();
        self.memory.put_ref(key.slot, || state.meta());
        Some(said)
    }
}

/// Who has a restored connection next.
fn stage_of_restored(tcp: &TcpState, socket: OwnedFd) -> Result<Stage, ProcessError> {
    if tcp.is(tcp_flag::END_WRITTEN) {
        Ok(Stage::Closing { wire: Wire::new(socket, tcp.written)? })
    } else {
        Ok(Stage::Unserved { socket })
    }
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
