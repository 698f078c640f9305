//! Errors of the memory module.

use std::io;

/// What can go wrong while guest memory is set up.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// `memfd_create` or its sizing failed.
    #[error("cannot create {bytes} bytes of memory for {what}: {source}")]
    Create {
        /// Which memory.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The memory could not be mapped into this process.
    #[error("cannot map {bytes} bytes for {what}: {reason}")]
    Map {
        /// Which memory.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// The memory could not be given back to the kernel, so it would keep its old content.
    #[error("cannot clear {what}: {source}")]
    Clear {
        /// Which memory.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A slot number that no lease begins with.
    #[error("slot {first_slot} begins no lease: the arena has {n_slots} slots in leases of {lease}")]
    NoSuchLease {
        /// Asked for.
        first_slot: u32,
        /// Slots of the arena.
        n_slots: u32,
        /// Slots of a lease.
        lease: u32,
    },
    /// The arena's size is not one the layout allows.
    #[error("an arena of {n_slots} slots is not possible: a multiple of {lease}, at least {lease}, at most {max}")]
    ArenaSize {
        /// Asked for.
        n_slots: u32,
        /// Slots of a lease.
        lease: u32,
        /// Most slots.
        max: u32,
    },
    /// The size of RAM is not one the layout allows.
    #[error("{bytes} bytes of guest RAM are not possible: a multiple of 2 MiB from {min} to {max}")]
    RamSize {
        /// Asked for.
        bytes: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
}
