//! Counters of the control rings.

/// What the control rings have carried. Plain numbers, written by the I/O thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlMetrics {
    /// Messages from the guest.
    pub received: u64,
    /// Entries that were no message; skipped.
    pub malformed: u64,
    /// Times the guest's producer index made no sense; everything up to it was skipped.
    pub indices_impossible: u64,
    /// Messages put into the guest's ring.
    pub sent: u64,
    /// Messages that had to wait because the ring was full.
    pub overflowed: u64,
    /// Messages refused because the waiting room was full too.
    pub refused: u64,
    /// Interrupts raised for the ring.
    pub interrupts: u64,
    /// Interrupts spared because the guest was awake.
    pub interrupts_spared: u64,
}
