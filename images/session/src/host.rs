//! What the platform offers.

use escape_abi::GuestMessage;

/// The platform under the [`crate::Server`].
pub trait Host {
    /// Monotone clock of this guest, microseconds.
    fn now_us(&self) -> i64;
    /// Puts one Ethernet frame (no virtio header) on the TX ring, not yet kicked. `false` = the ring is full, nothing was taken.
    fn transmit(&mut self, frame: &[u8]) -> bool;
    /// Puts a message on the guest→host ring. `false` = the ring is full, nothing was taken.
    fn send(&mut self, message: GuestMessage) -> bool;
}
