//! Slot words, metadata and slot memory together: what the commit path is given.

use super::arena::Arena;
use super::control_pages::ControlPages;
use super::error::MemoryError;
use super::slot_memory::SlotMemory;
use escape_abi::{SlotMeta, SlotWord};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// The guest's slots as the host sees them. Cheap to clone: all clones are the same memory.
#[derive(Clone, Debug)]
pub struct SlotTable {
    control: Arc<ControlPages>,
    arena: Arc<Arena>,
}

impl SlotTable {
    /// Puts the two parts of a VM together.
    pub fn new(control: Arc<ControlPages>, arena: Arc<Arena>) -> Self {
        Self { control, arena }
    }

    /// Gives a slot's memory back to the host; it reads as zero afterwards. Only while no slice lives in it.
    pub fn discard(&self, slot: u32) -> Result<(), MemoryError> {
        self.arena.discard(slot)
    }

    /// References held on all slots. Looks at each word: not for the commit path.
    pub fn references(&self) -> u64 {
        (0..self.n_slots()).filter_map(|slot| self.word(slot)).map(|word| u64::from(word.refs())).sum()
    }

    /// Whether the slot's lease is mapped here, so that a slice can be plugged into it.
    pub fn is_mapped(&self, slot: u32) -> bool {
        slot < self.arena.n_slots() && self.arena.is_leased(slot / escape_abi::layout::LEASE_SLOTS)
    }
}

impl SlotMemory for SlotTable {
    fn n_slots(&self) -> u32 {
        self.arena.n_slots()
    }

    fn word(&self, slot: u32) -> Option<SlotWord> {
        Some(SlotWord(self.control.word(slot)?.load(SeqCst)))
    }

    fn set_hold(&self, slot: u32, held: bool) {
        if let Some(hold) = self.control.hold(slot) {
            hold.store(u32::from(held), SeqCst);
        }
    }

    fn meta(&self, slot: u32) -> Option<SlotMeta> {
        self.control.meta(slot)
    }

    fn read(&self, slot: u32, offset: usize, into: &mut [u8]) -> bool {
        self.arena.read(slot, offset, into)
    }

    fn write(&self, slot: u32, offset: usize, from: &[u8]) -> bool {
        self.arena.write(slot, offset, from)
    }

    fn prefault(&self, slot: u32, offset: usize, len: usize) {
        self.arena.prefault(slot, offset, len);
    }

    fn set_word(&self, slot: u32, word: SlotWord) {
        if let Some(w) = self.control.word(slot) {
            w.store(word.0, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use escape_abi::layout::{LEASE_SLOTS, SLOT_SIZE};

    fn table(leased: &[u32]) -> SlotTable {
        let arena = Arena::new(4 * LEASE_SLOTS).unwrap();
        leased.iter().for_each(|l| arena.set_leased(*l));
        SlotTable::new(Arc::new(ControlPages::new(4 * LEASE_SLOTS).unwrap()), Arc::new(arena))
    }

    #[test]
    fn a_slot_is_reached_only_through_its_lease_and_only_inside() {
        let t = table(&[1]);
        let (last, mut b) = (2 * LEASE_SLOTS - 1, [0; 8]);
        assert!(t.write(last, SLOT_SIZE - 8, b"boundary"));
        assert!(t.read(last, SLOT_SIZE - 8, &mut b));
        assert_eq!(&b, b"boundary");
        assert!(!t.read(last, SLOT_SIZE - 7, &mut b), "across the end of the slot");
        assert!(!t.read(last, usize::MAX, &mut b));
        for slot in [0, 2 * LEASE_SLOTS, 4 * LEASE_SLOTS, u32::MAX] {
            assert!(!t.is_mapped(slot) && !t.write(slot, 0, &b) && !t.read(slot, 0, &mut b), "slot {slot}");
        }
        t.discard(last).unwrap();
        assert!(t.read(last, SLOT_SIZE - 8, &mut b));
        assert_eq!(b, [0; 8]);
    }

    #[test]
    fn words_and_holds_of_missing_slots_are_ignored() {
        let t = table(&[]);
        assert_eq!(t.references(), 0);
        t.set_word(9, SlotWord::new(3, 1));
        t.set_hold(9, true);
        assert_eq!((t.word(9), t.references()), (Some(SlotWord::new(3, 1)), 1));
        for slot in [4 * LEASE_SLOTS, u32::MAX] {
            t.set_word(slot, SlotWord::new(1, 0));
            t.set_hold(slot, true);
            assert_eq!((t.word(slot), t.meta(slot)), (None, None));
        }
    }

    #[test]
    fn arenas_of_odd_sizes_are_refused() {
        for n in [0, 1, LEASE_SLOTS + 1, escape_abi::layout::SLOTS_MAX + LEASE_SLOTS] {
            assert!(Arena::new(n).is_err(), "{n}");
        }
    }
}
