//! The arena, host side: one memfd and one mapping for the whole cell's arena, one memory slot per lease.

use super::error::MemoryError;
use super::shared_mapping::SharedMapping;
use escape_abi::layout::{LEASE_SLOTS, SLOT_SIZE, SLOTS_MAX};
use std::sync::atomic::{AtomicBool, Ordering};

/// Memory of every slot of the cell. Slots whose lease is not mapped into this guest have no memory slot; touching
/// them from the guest ends it, and touching them from the host is refused.
#[derive(Debug)]
pub struct Arena {
    mapping: SharedMapping,
    n_slots: u32,
    leased: Box<[AtomicBool]>,
}

impl Arena {
    /// Reserves addresses (not memory) for `n_slots`: a multiple of [`LEASE_SLOTS`], at most [`SLOTS_MAX`].
    pub fn new(n_slots: u32) -> Result<Self, MemoryError> {
        if n_slots == 0 || !n_slots.is_multiple_of(LEASE_SLOTS) || n_slots > SLOTS_MAX {
            return Err(MemoryError::ArenaSize { n_slots, lease: LEASE_SLOTS, max: SLOTS_MAX });
        }
        let mapping = SharedMapping::new("arena", u64::from(n_slots) * SLOT_SIZE as u64)?;
        let leased = (0..n_slots / LEASE_SLOTS).map(|_| AtomicBool::new(false)).collect();
        Ok(Self { mapping, n_slots, leased })
    }

    /// Slots of the cell's arena.
    pub fn n_slots(&self) -> u32 {
        self.n_slots
    }

    /// The index of the lease that begins with this slot.
    pub fn lease_index(&self, first_slot: u32) -> Result<u32, MemoryError> {
        if first_slot >= self.n_slots || !first_slot.is_multiple_of(LEASE_SLOTS) {
            return Err(MemoryError::NoSuchLease { first_slot, n_slots: self.n_slots, lease: LEASE_SLOTS });
        }
        Ok(first_slot / LEASE_SLOTS)
    }

    /// Whether the lease is mapped here.
    pub fn is_leased(&self, lease: u32) -> bool {
        self.leased.get(lease as usize).is_some_and(|l| l.load(Ordering::Acquire))
    }

    /// Records that the lease has its memory slot now.
    pub fn set_leased(&self, lease: u32) {
        if let Some(l) = self.leased.get(lease as usize) {
            l.store(true, Ordering::Release);
        }
    }

    /// Leases mapped here.
    pub fn leases(&self) -> usize {
        self.leased.iter().filter(|l| l.load(Ordering::Acquire)).count()
    }

    /// Host address of a lease's first byte.
    pub fn lease_host_address(&self, lease: u32) -> u64 {
        self.mapping.host_address() + u64::from(lease) * Self::lease_bytes()
    }

    /// Bytes of a lease.
    pub const fn lease_bytes() -> u64 {
        LEASE_SLOTS as u64 * SLOT_SIZE as u64
    }

    /// Volatile copy out of a slot; `false` if outside it or not leased here.
    pub fn read(&self, slot: u32, offset: usize, into: &mut [u8]) -> bool {
        self.offset(slot, offset, into.len()).is_some_and(|at| self.mapping.read(at, into))
    }

    /// Volatile copy into a slot; `false` if outside it or not leased here.
    pub fn write(&self, slot: u32, offset: usize, from: &[u8]) -> bool {
        self.offset(slot, offset, from.len()).is_some_and(|at| self.mapping.write(at, from))
    }

    /// Makes host pages present.
    pub fn prefault(&self, slot: u32, offset: usize, len: usize) {
        if let Some(at) = self.offset(slot, offset, len) {
            self.mapping.prefault(at, len);
        }
    }

    /// Gives a slot's memory back: it reads as zero afterwards. Only while no slice lives in it.
    pub fn discard(&self, slot: u32) -> Result<(), MemoryError> {
        match self.offset(slot, 0, SLOT_SIZE) {
            Some(at) => self.mapping.clear(at, SLOT_SIZE as u64),
            None => Ok(()),
        }
    }

    fn offset(&self, slot: u32, offset: usize, len: usize) -> Option<u64> {
        let inside = offset.checked_add(len)? <= SLOT_SIZE;
        (slot < self.n_slots && inside && self.is_leased(slot / LEASE_SLOTS))
            .then(|| u64::from(slot) * SLOT_SIZE as u64 + offset as u64)
    }
}
