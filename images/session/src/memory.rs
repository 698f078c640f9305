//! Where the control pages and the arena lie.

use crate::slot::{SlotState, layout};
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64};
use escape_abi::layout::SLOT_SIZE;
use escape_abi::{ControlLayout, SlotMeta};
use escape_capsule::SlotRefs;

/// The memory that guest and host share. Copies of it are the same memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    refs: SlotRefs,
    metas: *mut SlotMeta,
    arena: *mut u8,
}

impl Memory {
    /// Control pages at `control_base`, laid out as [`ControlLayout::new`]`(n_slots)` says, and an arena of `n_slots` slots.
    ///
    /// # Safety
    /// `control_base` must be 4096-aligned and valid for [`ControlLayout::bytes`], `arena_base` 4096-aligned; both for as long as this value or a
    /// copy of it is used. A slot's memory must be valid from the moment that a message names it or its lease. Nobody but the host (which
    /// touches a slot only while its word says so, and else reads) and the one [`crate::Server`] made with this value may access any of it.
    /// Slots hold addresses into themselves: a slot's bytes are right only at the address at which they were made.
    pub unsafe fn new(control_base: *mut u8, arena_base: *mut u8, n_slots: u32) -> Self {
        let at = ControlLayout::new(n_slots);
        // SAFETY: the caller vouches for the control pages, in which these tables lie, aligned to 4096.
        unsafe {
            let words = control_base.add(at.words as usize).cast::<AtomicU64>();
            let holds = control_base.add(at.holds as usize).cast::<AtomicU32>();
            let metas = control_base.add(at.metas as usize).cast::<SlotMeta>();
            Self { refs: SlotRefs::new(words, holds, n_slots), metas, arena: arena_base }
        }
    }

    pub(crate) const fn n_slots(&self) -> u32 {
        self.refs.n_slots()
    }
    pub(crate) const fn refs(&self) -> &SlotRefs {
        &self.refs
    }

    /// The slot's state, not looked at yet. `None` beyond the arena.
    pub(crate) fn state(&self, slot: u32) -> Option<*mut SlotState> {
        // In bounds of the arena by the check; only an address is computed.
        (slot < self.n_slots()).then(|| self.arena.wrapping_add(slot as usize * SLOT_SIZE).cast())
    }

    /// The slot's heap.
    ///
    /// # Safety
    /// The slot must be mapped and no other reference to its heap alive.
    pub(crate) unsafe fn heap<'a>(&self, slot: u32) -> &'a mut [u8] {
        let Some(base) = self.state(slot) else { return &mut [] };
        // SAFETY: inside the slot; the caller vouches for the rest.
        unsafe { core::slice::from_raw_parts_mut(base.cast::<u8>().add(layout::HEAP_AT), layout::HEAP_SIZE) }
    }

    /// Puts back a reference; with the last one publishes `meta` and moves the generation on.
    pub(crate) fn put_ref(&self, slot: u32, meta: impl FnOnce() -> SlotMeta) {
        self.refs.put_ref(slot, || {
            // SAFETY: a reference to `slot` was taken, so it is below n_slots. The host reads this entry only while no reference is out,
            // and checks the word afterwards.
            unsafe { ptr::write_volatile(self.metas.add(slot as usize), meta()) }
        });
    }
}
