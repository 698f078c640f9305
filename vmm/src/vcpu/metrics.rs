//! Counters of vCPU exits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counted on vCPU threads.
#[derive(Debug, Default)]
pub struct ExitCounters {
    /// Accesses to memory-mapped devices.
    pub mmio: AtomicU64,
    /// Of these, to addresses where nothing is.
    pub mmio_unknown: AtomicU64,
    /// Port accesses.
    pub ports: AtomicU64,
    /// Accesses to arena addresses without a lease; each stops the guest.
    pub unleased_arena: AtomicU64,
    /// Returns from the guest because of a signal.
    pub interrupted: AtomicU64,
}

/// A reading of [`ExitCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitMetrics {
    /// Accesses to memory-mapped devices.
    pub mmio: u64,
    /// Of these, to addresses where nothing is.
    pub mmio_unknown: u64,
    /// Port accesses.
    pub ports: u64,
    /// Accesses to arena addresses without a lease; each stopped the guest.
    pub unleased_arena: u64,
    /// Returns from the guest because of a signal.
    pub interrupted: u64,
}

impl ExitCounters {
    /// Reads all of them.
    pub fn read(&self) -> ExitMetrics {
        ExitMetrics {
            mmio: self.mmio.load(Relaxed),
            mmio_unknown: self.mmio_unknown.load(Relaxed),
            ports: self.ports.load(Relaxed),
            unleased_arena: self.unleased_arena.load(Relaxed),
            interrupted: self.interrupted.load(Relaxed),
        }
    }
}
