//! An agent that goes on with what a former one has left.
//!
//! What is in which slot is in the book, connections and processes are with the keeper ([`crate::keeping`]), slices and the rings to the host
//! are in memory that outlives every process. The former agent may have ended anywhere: what it was at work on is tried once more
//! where nothing can happen twice by that, and refused where it can. A slice of which it had a reference is torn, and given up.

use super::agent::{Agent, Devices};
use super::ahead::Ahead;
use super::asking::Asking;
use super::book::{Book, Phase, Record, Speaker};
use super::host::Host;
use super::places::{Place, Places, Stage};
use super::processes::{Process, Processes, say};
use crate::error::AgentError;
use crate::keeping::{Kept, Name, Thing};
use escape_abi::message::refusal;
use escape_abi::{HostMessage, RingEntry};
use escape_capsule::SliceKey;
use escape_process::{Channel, Message, ProcessError, SliceMemory, TcpState, Wire};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Cause of a slice's end that [`escape_abi::GuestMessage::Poisoned`] tells: the agent died while it worked on it, or nothing is left of
/// its connection.
const AGENT_DIED: u32 = 260;

/// What the keeper had.
#[derive(Default)]
struct Left {
    book: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    processes: Vec<Process>,
    connections: HashMap<u32, OwnedFd>,
}

impl Left {
    fn of(things: Vec<Thing>) -> Self {
        let mut left = Self::default();
        for Thing { name, words, descriptor } in things {
            match name {
                Name::Book => left.book = Some(descriptor),
                Name::Listener => left.listener = Some(descriptor),
                Name::Process(id) => {
                    let ports = words.iter().filter_map(|port| u16::try_from(*port).ok()).filter(|port| *port != 0);
                    left.processes.push(Process { id, channel: Channel::of(descriptor), ports: ports.collect() });
                }
                Name::Connection(slot) => {
                    left.connections.insert(slot, descriptor);
                }
            }
        }
        left
    }
}

impl Agent {
    /// An agent for a service with this address; it goes on with what `kept` has of a former one. Returns the former one's listener too.
    ///
    /// # Errors
    /// The keeper is gone, or what it has is not of this arena.
    pub fn begin(
        memory: SliceMemory,
        host: Host,
        devices: Devices,
        service_ip: [u8; 4],
        mut kept: Kept,
    ) -> Result<(Self, Option<OwnedFd>), AgentError> {
        let Left { book, listener, processes: left, connections } = Left::of(kept.all()?);
        let book = match book {
            Some(book) => Book::of(book, memory.n_slots())?,
            None => {
                let book = Book::new(memory.n_slots())?;
                kept.keep(Name::Book, [0; 4], book.as_fd());
                book
            }
        };
        let mut processes = Processes::default();
        left.into_iter().for_each(|process| processes.restore(process));
        let places = Places::new(book);
        let mut agent = Self {
            memory,
            host,
            places,
            processes,
            kept,
            devices,
            service_ip,
            ahead: Ahead::new(),
            given: Vec::new(),
            closing: Vec::new(),
            asking: Vec::new(),
            unheard: Vec::new(),
        };
        agent.take_over(connections);
        Ok((agent, listener))
    }

    fn take_over(&mut self, mut connections: HashMap<u32, OwnedFd>) {
        let records = (0..self.memory.n_slots()).map(|slot| self.places.book.record(slot));
        let records: Vec<Record> = records.filter(|r| !matches!(r.phase, Phase::Free | Phase::Gone)).collect();
        let mut adopted = HashMap::new();
        for record in &records {
            let connection = connections.remove(&record.key.slot);
            match record.phase {
                Phase::Opening => {
                    self.find_place(record, None);
                    connection.map(|connection| adopted.insert(record.key.slot, connection));
                }
                _ => self.find_place(record, connection),
            }
        }
        for (slot, connection) in connections {
            // Of a slice that was discarded, or is not plugged here yet.
            let _ = escape_tcp::silence(connection.as_fd());
            self.kept.forget_now(Name::Connection(slot));
        }
        for record in &records {
            self.go_on(record);
        }
        if let Some((speaker, words, tried)) = self.places.book.left_at_work() {
            self.try_again(speaker, words, tried, &mut adopted);
        }
        self.tell_given();
        self.places.book.done();
        // Their processes have them, and were told that they are no slices.
        adopted.into_keys().for_each(|slot| self.kept.forget(Name::Connection(slot)));
    }

    /// A slice is where it was.
    fn find_place(&mut self, record: &Record, connection: Option<OwnedFd>) {
        let Record { phase, told, key, flow, process } = *record;
        self.processes.has_used(process);
        // SAFETY: inside the arena, as all slots of the book are; a copy of numbers of which any value will do.
        let Some(state) = self.memory.slot(key.slot).map(|slot| unsafe { slot.read_volatile() }) else { return };
        let is_ours = !matches!(phase, Phase::Running | Phase::Plugging);
        let is_torn = is_ours && !self.memory.refs().word(key.slot).quiescent();
        let stage = stage_of(phase, process, connection, &state.tcp);
        let is_lost = is_torn || stage.is_err();
        let stage = stage.unwrap_or_else(|(error, socket)| {
            eprintln!("escape-agent: slice {key}: {error}");
            Stage::Over { socket }
        });
        self.places.insert(Place { key, flow, stage, told, since: Instant::now() });
        if is_lost && phase == Phase::Opening {
            // The host has not heard of it.
            self.places.remove(key);
        } else if is_lost {
            eprintln!("escape-agent: slice {key} cannot go on after the agent's end ({phase:?}), and is given up");
            if let Some(process) = self.processes.get(process).filter(|_| !is_ours) {
                say(&process.channel, Message::Discard { slice: key }, &[]);
            }
            self.give_up(key, AGENT_DIED);
        }
    }

    /// What its stage has still to bring about.
    fn go_on(&mut self, record: &Record) {
        let key = record.key;
        let Some(place) = self.places.get_mut(key) else { return };
        match place.stage.phase() {
            (Phase::Running | Phase::Plugging, Some(process)) if self.processes.get(process).is_none() => {
                return self.release(key);
            }
            // It may have heard it already, and then takes no notice.
            (Phase::Plugging, Some(process)) => self.tell_of(process, key),
            (Phase::Asking | Phase::Closing | Phase::Unserved, _) => self.restored(key),
            (Phase::Over, _) => self.publish_end(key),
            _ => {}
        }
        // SAFETY: as in `find_place`.
        let state = self.memory.slot(key.slot).map(|slot| unsafe { slot.read_volatile() });
        let may_be_unheard = record.phase != Phase::Opening && record.phase != Phase::Over;
        if may_be_unheard && state.is_some_and(|state| state.tcp.is_unheard()) {
            self.unheard.push((key, 0));
        }
    }

    /// What the former agent was at work on, once more; the second time only what says no.
    fn try_again(&mut self, speaker: Speaker, words: [u64; 8], tried: bool, adopted: &mut HashMap<u32, OwnedFd>) {
        match speaker {
            Speaker::Host => {
                let [kind, word @ ..] = words;
                match (RingEntry { kind, word }).host_message() {
                    Some(HostMessage::Plug { slot, incarnation }) => {
                        self.plug_again(SliceKey { slot, incarnation }, tried);
                    }
                    // If its slice is not there yet, its client tries again.
                    Some(HostMessage::Opening { flow, .. }) => {
                        if let Some(key) = self.places.of_flow(&flow).map(|place| place.key) {
                            self.open_again(key);
                        }
                    }
                    Some(message) if !tried => self.on_host(message),
                    _ => {}
                }
            }
            Speaker::Process(id) => {
                let channel = self.processes.get(id).map(|process| process.channel.clone());
                let (Some(channel), Some(message)) = (channel, Message::of_words(words)) else { return };
                let connection = match message {
                    Message::Adopt { flow } => self.places.of_flow(&flow).and_then(|at| adopted.remove(&at.key.slot)),
                    _ => None,
                };
                if tried || self.on_process(id, &channel, message, connection.into_iter().collect()).is_err() {
                    self.process_gone(id);
                }
            }
        }
    }

    fn plug_again(&mut self, key: SliceKey, tried: bool) {
        if self.places.get_mut(key).is_some() {
            return;
        }
        if tried || key.slot >= self.memory.n_slots() || !self.memory.refs().word(key.slot).quiescent() {
            eprintln!("escape-agent: slice {key} was being plugged when the agent ended, and is refused");
            return self.plugged(key, refusal::BAD_HEADER);
        }
        self.plug(key);
    }

    /// A slice that was being made: it is bound if it was made.
    fn open_again(&mut self, key: SliceKey) {
        // SAFETY: as in `find_place`.
        let state = self.memory.slot(key.slot).map(|slot| unsafe { slot.read_volatile() });
        let is_made = self.memory.refs().word(key.slot).generation() > 0;
        match (self.places.get_mut(key).map(|place| (place.stage.phase().0, place.flow)), state) {
            (Some((Phase::Opening, flow)), Some(state)) if is_made && state.check(key).is_ok() => self.bind(key, flow),
            (Some((Phase::Opening, _)), _) => {
                self.places.remove(key);
                self.places.free(key.slot);
            }
            _ => {}
        }
    }
}

/// The stage that is told by a record, with its connection; an error: it cannot be gone on with.
fn stage_of(
    phase: Phase,
    process: u64,
    connection: Option<OwnedFd>,
    tcp: &TcpState,
) -> Result<Stage, (ProcessError, Option<OwnedFd>)> {
    let lost = || {
        let source = std::io::ErrorKind::NotFound.into();
        (ProcessError::Call { call: "its connection", source }, None)
    };
    Ok(match (phase, connection) {
        (Phase::Opening, _) => Stage::Opening,
        (Phase::Over, socket) => Stage::Over { socket },
        (Phase::Running, Some(socket)) => Stage::Running { process, socket },
        (Phase::Plugging, Some(socket)) => Stage::Plugging { process, socket },
        (Phase::Unserved, Some(socket)) => Stage::Unserved { socket },
        (Phase::Asking, Some(socket)) => Stage::Asking { asking: Asking::again(socket) },
        (Phase::Closing, Some(socket)) => {
            let copy = socket.try_clone().ok();
            Stage::Closing { wire: Wire::again(socket, tcp).map_err(|error| (error, copy))? }
        }
        (Phase::Running | Phase::Plugging | Phase::Unserved | Phase::Asking | Phase::Closing, None) => {
            return Err(lost());
        }
        (Phase::Free | Phase::Gone, _) => return Err(lost()),
    })
}
