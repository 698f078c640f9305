//! The agent's side of the control pages: messages, signs of life, the doorbell.

use crate::error::AgentError;
use escape_abi::control::RING_ENTRIES;
use escape_abi::layout::DOORBELL;
use escape_abi::{GuestMessage, HostMessage};
use escape_control::{Control, GuestRing, Heartbeat, HostRing};
use escape_process::SliceMemory;
use rustix::mm::{MapFlags, ProtFlags};
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::path::Path;

/// Messages that wait for room in the ring; when there are more, the oldest `Changed` would be the first to lose, so there are as many as
/// the ring has: a host that has not taken 16,384 messages is gone.
const WAITING_MAX: usize = RING_ENTRIES as usize;

/// What tells the host to look at the ring.
#[derive(Debug)]
pub enum Doorbell {
    /// A word of the machine's memory, at [`DOORBELL`].
    Mapped(*mut u32),
    /// Nothing: the host looks by itself, as in tests.
    None,
}

impl Doorbell {
    /// Maps it.
    ///
    /// # Errors
    /// This program may not.
    pub fn map() -> Result<Self, AgentError> {
        const PAGE: usize = 4096;
        let error = |source| AgentError::Arena { device: "/dev/mem (the doorbell)", source };
        let memory = OpenOptions::new().read(true).write(true).open(Path::new("/dev/mem")).map_err(error)?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at a place of the kernel's choice; nothing else is touched.
        let page = unsafe { rustix::mm::mmap(std::ptr::null_mut(), PAGE, protection, flags, &memory, DOORBELL) };
        page.map(|page| Self::Mapped(page.cast())).map_err(|errno| error(errno.into()))
    }

    fn ring(&self) {
        match self {
            // SAFETY: mapped for the life of the process; the host takes the write as an event, there is no memory behind it.
            Self::Mapped(word) => unsafe { word.write_volatile(1) },
            Self::None => {}
        }
    }
}

/// The host, as the agent talks to it.
pub struct Host {
    /// Signs of life.
    pub heartbeat: Heartbeat,
    incoming: HostRing,
    outgoing: GuestRing,
    waiting: VecDeque<GuestMessage>,
    doorbell: Doorbell,
    unannounced: bool,
    dropped: u64,
}

impl Host {
    /// The control pages of this memory; one agent only.
    ///
    /// # Errors
    /// They are not as the host makes them.
    pub fn of(memory: &SliceMemory, doorbell: Doorbell) -> Result<Self, AgentError> {
        // SAFETY: `memory` has checked the pages, they stay mapped, and an agent makes this value once.
        let control = unsafe { Control::attach(memory.control_base(), memory.n_slots()) };
        let Control { heartbeat, host_ring, guest_ring } = control.ok_or(AgentError::ControlPages)?;
        let (waiting, unannounced, dropped) = (VecDeque::new(), false, 0);
        Ok(Self { heartbeat, incoming: host_ring, outgoing: guest_ring, waiting, doorbell, unannounced, dropped })
    }

    /// Something of the host waits.
    pub fn has_news(&self) -> bool {
        self.incoming.has_entries() || self.heartbeat.is_asked()
    }

    /// The message that so many others stand before.
    pub fn peek(&self, before: u32) -> Option<HostMessage> {
        self.incoming.peek(before)
    }

    /// The next message.
    pub fn receive(&mut self) -> Option<HostMessage> {
        self.incoming.receive()
    }

    /// Sends a message, behind those that wait for room. The host is told by [`Self::announce`].
    pub fn send(&mut self, message: GuestMessage) {
        #[cfg(test)]
        super::crash::step();
        self.unannounced = true;
        self.send_waiting();
        if !self.waiting.is_empty() || !self.outgoing.send(message) {
            if self.waiting.len() >= WAITING_MAX {
                self.dropped += 1;
                return;
            }
            self.waiting.push_back(message);
        }
    }

    /// Rings the doorbell if something was sent. Once per turn.
    pub fn announce(&mut self) {
        self.send_waiting();
        if std::mem::take(&mut self.unannounced) {
            self.doorbell.ring();
        }
    }

    fn send_waiting(&mut self) {
        while let Some(message) = self.waiting.front().copied() {
            if !self.outgoing.send(message) {
                return;
            }
            self.waiting.pop_front();
        }
    }
}
