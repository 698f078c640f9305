//! What the commit path may do with the arena of a running guest.

use escape_abi::{SlotMeta, SlotWord};

/// The arena and its slot table as the commit path sees them.
///
/// The guest runs and writes while any of this happens, so nothing that is returned can be trusted: not the word, not
/// the metadata, not the bytes. Implementations copy by volatile or atomic access only. No method panics, whatever
/// `slot` and `offset` are; an access outside the slot, or to a slot whose lease is not mapped here, does nothing and
/// says so where it has a result.
pub trait SlotMemory {
    /// Slots of the cell's arena.
    fn n_slots(&self) -> u32;

    /// The slot's word, read with sequentially consistent order; `None` if there is no such slot.
    fn word(&self, slot: u32) -> Option<SlotWord>;

    /// Sets or clears the slot's hold (sequentially consistent): while it is set the guest takes no new reference.
    fn set_hold(&self, slot: u32, held: bool);

    /// A volatile copy of what the guest published about the slot.
    fn meta(&self, slot: u32) -> Option<SlotMeta>;

    /// Copies `into.len()` bytes at `offset` of the slot out of the arena.
    ///
    /// Returns `false`, and leaves `into` alone, if the range does not lie in the slot or the slot is not mapped here.
    fn read(&self, slot: u32, offset: usize, into: &mut [u8]) -> bool;

    /// Copies `from` into the slot at `offset`; `false` as for [`SlotMemory::read`].
    fn write(&self, slot: u32, offset: usize, from: &[u8]) -> bool;

    /// Makes the host pages of a range present, so that a later [`SlotMemory::write`] does not fault. Best effort.
    fn prefault(&self, slot: u32, offset: usize, len: usize);

    /// Sets the slot's word. Only while no guest reference can exist: before the slice is plugged.
    fn set_word(&self, slot: u32, word: SlotWord);
}
