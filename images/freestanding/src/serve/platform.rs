//! What the server sees of the machine.

use crate::control::GuestRing;
use crate::runtime::clock::Clock;
use crate::virtio::net::Transmitter;
use escape_abi::GuestMessage;
use escape_abi::layout::DOORBELL;
use escape_session::Host;

/// Clock, transmit queue and guest→host ring, with one notification for all that a turn produced.
pub(super) struct Platform {
    clock: Clock,
    transmitter: Transmitter,
    ring: GuestRing,
    /// Messages were written after the last frame that was shown: no frame will make the host look for them.
    message_uncovered: bool,
}

impl Platform {
    pub(super) fn new(clock: Clock, transmitter: Transmitter, ring: GuestRing) -> Self {
        Self { clock, transmitter, ring, message_uncovered: false }
    }

    /// Shows the frames put on the ring so far. Called when no reference is held.
    pub(super) fn publish(&mut self) {
        // The host empties the control ring before it classifies a frame (a flow's binding comes before its frames), so
        // it will see every message written before this frame.
        if self.transmitter.publish() {
            self.message_uncovered = false;
        }
    }

    /// The end of a turn: shows the rest and notifies the host, once, if it must be. A doorbell is an ioeventfd too.
    pub(super) fn flush(&mut self) {
        self.publish();
        if !self.transmitter.kick() && self.message_uncovered {
            // SAFETY: the doorbell's address by the layout, mapped by the VMM's tables; it touches no memory.
            unsafe { (DOORBELL as *mut u32).write_volatile(1) };
        }
        self.message_uncovered = false;
    }
}

impl Host for Platform {
    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        self.transmitter.transmit(frame)
    }

    fn send(&mut self, message: GuestMessage) -> bool {
        let sent = self.ring.send(message);
        // Also when the ring is full: the host must come and empty it.
        self.message_uncovered = true;
        sent
    }
}
