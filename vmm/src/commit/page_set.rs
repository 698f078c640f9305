//! A set of 4 KiB pages of one slot.

use crate::memory::slot_memory::SlotMemory;
use escape_abi::layout::{LINE, SLOT_SIZE};
use std::ops::Range;

const PAGE: usize = 4096;
const LINES_PER_PAGE: usize = PAGE / LINE;
const _: () = assert!(SLOT_SIZE / PAGE == u64::BITS as usize, "one bit per page of a slot");

/// Pages as bits of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageSet(u64);

impl PageSet {
    /// Adds the pages that lines of the slot touch; returns those that were not in the set.
    pub(super) fn add_lines(&mut self, spans: impl Iterator<Item = Range<usize>>) -> Self {
        let mut touched = 0;
        for span in spans {
            for page in span.start / LINES_PER_PAGE..span.end.div_ceil(LINES_PER_PAGE).min(u64::BITS as usize) {
                touched |= 1 << page;
            }
        }
        let new = touched & !self.0;
        self.0 |= touched;
        Self(new)
    }

    /// No page.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Number of pages.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Makes these pages of a slot's arena memory present, so that a plug of many slices does not fault.
    pub fn prefault(self, slot: u32, memory: &impl SlotMemory) {
        let mut left = self.0;
        while left != 0 {
            let first = left.trailing_zeros();
            let count = (left >> first).trailing_ones();
            memory.prefault(slot, first as usize * PAGE, count as usize * PAGE);
            left &= !((u64::MAX >> (u64::BITS - count)) << first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::once;

    #[test]
    fn only_pages_that_are_new_are_told() {
        let mut pages = PageSet::default();
        assert_eq!(pages.add_lines([0..1, 63..65].into_iter()), PageSet(0b11));
        assert_eq!(pages.add_lines(once(0..200)), PageSet(0b1100));
        assert!(pages.add_lines(once(5..6)).is_empty());
        assert_eq!(pages.add_lines(once(0..SLOT_SIZE / LINE)).len(), 60);
    }
}
