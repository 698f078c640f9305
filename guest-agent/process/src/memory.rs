//! Slots and their words, as this process sees them.

use crate::devices::Device;
use crate::{ProcessError, SlotState};
use escape_abi::control::CONTROL_MAGIC;
use escape_abi::layout::{ARENA_BASE, CONTROL_BASE, SLOT_SIZE, SLOTS_MAX};
use escape_abi::{ControlHeader, ControlLayout, SlotMeta};
use escape_capsule::SlotRefs;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The memory that guest and host share. Copies of it are the same memory.
#[derive(Clone, Copy, Debug)]
pub struct SliceMemory {
    refs: SlotRefs,
    metas: *mut SlotMeta,
    control: *mut u8,
    arena: *mut u8,
}

// SAFETY: all of it is memory that stays mapped for the life of the process. What is shared with the host is reached by atomic and
// volatile access; a slot's bytes belong to whoever has the one `Connection` of it.
unsafe impl Send for SliceMemory {}
// SAFETY: as for `Send`; by itself it gives addresses and atomic access only.
unsafe impl Sync for SliceMemory {}

impl SliceMemory {
    /// Maps a cell's control pages and arena, at their addresses.
    ///
    /// # Errors
    /// The addresses are taken, or the pages are not a cell's.
    pub fn map(control: &Device, arena: &Device) -> Result<Self, ProcessError> {
        let control_at = control.map_at(CONTROL_BASE)?;
        let arena_at = arena.map_at(ARENA_BASE)?;
        // SAFETY: just mapped, for the life of the process; the devices' sizes are checked by `attach`.
        unsafe { Self::attach((control_at, control.bytes()), (arena_at, arena.bytes())) }
    }

    /// Memory that is mapped already: control pages and arena, each with its size.
    ///
    /// # Errors
    /// The pages are not those of such an arena, or the arena has no room for their slots.
    ///
    /// # Safety
    /// Both are mapped for the life of the process, aligned to 4096, and reached by nobody but the host and this crate.
    pub unsafe fn attach(control: (*mut u8, usize), arena: (*mut u8, usize)) -> Result<Self, ProcessError> {
        let wrong = || ProcessError::ControlPages { bytes: arena.1 };
        if control.1 < size_of::<ControlHeader>() {
            return Err(wrong());
        }
        let header = control.0.cast::<ControlHeader>();
        // SAFETY: inside the pages, by the check; the host has written both before the guest ran.
        let (magic, n_slots) = unsafe { ((&raw const (*header).magic).read(), (&raw const (*header).n_slots).read()) };
        let at = ControlLayout::new(n_slots.min(SLOTS_MAX));
        let control_fits = usize::try_from(at.bytes).is_ok_and(|bytes| bytes <= control.1);
        let arena_fits = (n_slots as usize).checked_mul(SLOT_SIZE).is_some_and(|bytes| bytes <= arena.1);
        if magic != CONTROL_MAGIC || n_slots > SLOTS_MAX || !control_fits {
            return Err(wrong());
        }
        if !arena_fits {
            return Err(ProcessError::ArenaTooSmall { bytes: arena.1, slots: n_slots });
        }
        // SAFETY: the tables lie in the pages, aligned to 4096, by the layout and the checks.
        unsafe {
            let words = control.0.add(at.words as usize).cast::<AtomicU64>();
            let holds = control.0.add(at.holds as usize).cast::<AtomicU32>();
            let metas = control.0.add(at.metas as usize).cast::<SlotMeta>();
            Ok(Self { refs: SlotRefs::new(words, holds, n_slots), metas, control: control.0, arena: arena.0 })
        }
    }

    /// Slots of the arena.
    pub const fn n_slots(&self) -> u32 {
        self.refs.n_slots()
    }

    /// Words and holds.
    pub const fn refs(&self) -> &SlotRefs {
        &self.refs
    }

    /// Address of the control pages.
    pub const fn control_base(&self) -> *mut u8 {
        self.control
    }

    /// A slot's address; `None` beyond the arena. Nothing is looked at.
    pub fn slot(&self, slot: u32) -> Option<*mut SlotState> {
        (slot < self.n_slots()).then(|| self.arena.wrapping_add(slot as usize * SLOT_SIZE).cast())
    }

    /// Puts a reference back; with the last one publishes what `meta` says and moves the generation on.
    pub fn put_ref(&self, slot: u32, meta: impl FnOnce() -> SlotMeta) {
        self.refs.put_ref(slot, || {
            // SAFETY: a reference to `slot` was taken, so it is below n_slots. The host reads this entry only while no reference is out,
            // and checks the word afterwards.
            unsafe { self.metas.add(slot as usize).write_volatile(meta()) }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_that_is_too_small_and_pages_of_something_else_are_refused() {
        const SLOTS: u32 = 4;
        let bytes = ControlLayout::new(SLOTS).bytes as usize;
        let mut control: Vec<u64> = vec![0; bytes / 8];
        // SAFETY: zeroed and long enough for the header; nothing of the arena is looked at, and nothing outlives this test.
        let mut attach = |magic: u64, arena_bytes: usize| unsafe {
            let header = control.as_mut_ptr().cast::<ControlHeader>();
            (&raw mut (*header).magic).write(magic);
            (&raw mut (*header).n_slots).write(SLOTS);
            let arena = std::ptr::without_provenance_mut(4096);
            SliceMemory::attach((header.cast(), bytes), (arena, arena_bytes)).map_err(|error| error.to_string())
        };
        assert!(attach(CONTROL_MAGIC, SLOTS as usize * SLOT_SIZE).is_ok());
        let small = attach(CONTROL_MAGIC, SLOTS as usize * SLOT_SIZE - 1).unwrap_err();
        assert!(small.contains("has 1048575 bytes, and its 4 slots need 1048576"), "{small}");
        let foreign = attach(CONTROL_MAGIC + 1, SLOTS as usize * SLOT_SIZE).unwrap_err();
        assert!(foreign.contains("the control pages are not those"), "{foreign}");
    }
}
