//! What the processes ask of the agent. Every call returns at once.

use super::agent::{Agent, MESSAGES_PER_TURN_MAX};
use super::book::{Phase, Speaker};
use super::places::{Place, Stage};
use super::processes::say;
use crate::error::AgentError;
use crate::keeping::Name;
use escape_abi::GuestMessage;
use escape_abi::message::Flow;
use escape_capsule::SliceKey;
use escape_process::channel::{PORTS_MAX, Received, VERSION};
use escape_process::{Channel, Message, Wire};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Cause of a slice's end that [`GuestMessage::Poisoned`] tells: its process died while it worked on it.
const PROCESS_DIED: u32 = 257;
/// Likewise: its process did not take it, after the host was told that it is plugged.
const REFUSED: u32 = 259;

impl Agent {
    /// Takes what a process has said; an error: it is gone, or talks nonsense.
    pub fn hear_process(&mut self, id: u64) -> Result<(), AgentError> {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(process) = self.processes.get(id) else { return Ok(()) };
            let channel = process.channel.clone();
            let Some(Received { message, descriptors }) = channel.receive(false)? else { return Ok(()) };
            self.places.book.begin(Speaker::Process(id), message.to_words());
            self.on_process(id, &channel, message, descriptors)?;
            self.places.book.done();
        }
        Ok(())
    }

    pub(super) fn on_process(
        &mut self,
        id: u64,
        channel: &Channel,
        message: Message,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), AgentError> {
        match message {
            Message::Hello { version, ports } => self.welcome(id, channel, version, ports)?,
            Message::Adopt { flow } => self.adopt(id, channel, flow, descriptors),
            Message::Changed { slice } if self.serves(id, slice) => {
                self.host.send(GuestMessage::Changed { slot: slice.slot });
            }
            Message::Closing { slice, sent } if self.serves(id, slice) => self.begin_closing(slice, sent)?,
            Message::Plugged { slices } => {
                for (slice, status) in slices.into_iter().flatten() {
                    self.on_plugged(id, slice, status.into());
                }
            }
            // Of a slice that was discarded meanwhile.
            Message::Changed { .. } | Message::Closing { .. } => {}
            _ => return Err(AgentError::Nonsense),
        }
        Ok(())
    }

    fn welcome(&mut self, id: u64, channel: &Channel, version: u32, ports: [u16; PORTS_MAX]) -> Result<(), AgentError> {
        if version != VERSION {
            return Err(AgentError::Nonsense);
        }
        let [(control, control_bytes), (arena, arena_bytes)] = &self.devices;
        let welcome = Message::Welcome { control_bytes: *control_bytes, arena_bytes: *arena_bytes };
        self.kept.keep(Name::Process(id), ports.map(u64::from), channel.as_fd());
        say(channel, welcome, &[control.as_fd(), arena.as_fd()]);
        self.processes.register(id, &ports);
        if !self.places.book.set_ready() {
            self.host.send(GuestMessage::Ready);
        }
        for key in self.places.keys(|place| matches!(place.stage, Stage::Unserved { .. })) {
            self.give_to_process(key);
        }
        Ok(())
    }

    fn adopt(&mut self, id: u64, channel: &Channel, flow: Flow, descriptors: Vec<OwnedFd>) {
        let place = self.places.of_flow(&flow).map(|place| (place.key, place.stage.phase()));
        let answer = match (place, descriptors.into_iter().next()) {
            (Some((key, (Phase::Opening, _))), Some(socket)) => {
                self.kept.keep(Name::Connection(key.slot), [0; 4], socket.as_fd());
                self.places.set(key, Stage::Running { process: id, socket });
                Message::Adopted { slice: key }
            }
            // A former agent was at it when it ended.
            (Some((key, (Phase::Running, Some(process)))), None) if process == id => Message::Adopted { slice: key },
            _ => Message::NotAdopted { flow },
        };
        say(channel, answer, &[]);
    }

    fn on_plugged(&mut self, id: u64, key: SliceKey, status: u32) {
        let phase = self.places.get_mut(key).map(|place| (place.stage.phase(), place.told));
        match phase {
            Some(((Phase::Plugging, Some(process)), _)) if process == id => {}
            // A former agent was at it when it ended.
            Some(((Phase::Running, Some(process)), false)) if process == id => {}
            _ => return,
        }
        let told = phase.is_some_and(|(_, told)| told);
        if let Some(Stage::Plugging { process, socket } | Stage::Running { process, socket }) = self.places.take(key) {
            self.places.set(key, Stage::Running { process, socket });
        }
        self.tell_plugged(key, status);
        match (status, told) {
            (0, _) => {}
            (_, false) => self.drop_in_silence(key),
            (_, true) => self.give_up(key, REFUSED),
        }
    }

    fn serves(&mut self, id: u64, key: SliceKey) -> bool {
        self.places
            .get_mut(key)
            .is_some_and(|place| matches!(place.stage, Stage::Running { process, .. } if process == id))
    }

    fn begin_closing(&mut self, key: SliceKey, sent: u64) -> Result<(), AgentError> {
        if let Some(Stage::Running { socket, .. }) = self.places.take(key) {
            self.places.set(key, Stage::Closing { wire: Wire::new(socket, sent)? });
            if let Some(place) = self.places.get_mut(key) {
                place.since = Instant::now();
            }
            self.closing.push(key);
            self.go_on_closing(key);
        }
        Ok(())
    }

    /// A process has called; its number here. `None`: there are too many.
    pub fn add_process(&mut self, channel: Channel) -> Option<u64> {
        let id = self.processes.add(channel)?;
        if let Some(process) = self.processes.get(id) {
            self.kept.keep(Name::Process(id), [0; 4], process.channel.as_fd());
        }
        Some(id)
    }

    /// A process is gone: its slices are released, and nothing else is.
    pub fn process_gone(&mut self, id: u64) {
        self.processes.remove(id);
        self.kept.forget(Name::Process(id));
        let of_process = |place: &Place| match place.stage {
            Stage::Running { process, .. } | Stage::Plugging { process, .. } => process == id,
            _ => false,
        };
        for key in self.places.keys(of_process) {
            self.release(key);
        }
    }

    /// Resets a connection before this returns, whoever has descriptors of it still: a process that dies closes its own one after the other,
    /// and once the host has heard of the end, nothing of the connection leaves.
    pub(super) fn reset(&mut self, key: SliceKey, socket: &OwnedFd) {
        // A connection that is gone already has nothing to reset.
        let _ = rustix::net::connect_unspec(socket);
        self.kept.forget(Name::Connection(key.slot));
    }

    /// A slice whose process has died. What it was at work on is torn; any other ends with a reset, which its client hears.
    pub(super) fn release(&mut self, key: SliceKey) {
        if !self.memory.refs().word(key.slot).quiescent() {
            return self.give_up(key, PROCESS_DIED);
        }
        let taken = self.places.take(key);
        self.places.set(key, Stage::Over { socket: None });
        if let Some(Stage::Running { socket, .. } | Stage::Plugging { socket, .. }) = taken {
            self.reset(key, &socket);
        }
        self.publish_end(key);
    }
}
