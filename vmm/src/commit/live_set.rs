//! The live ranges of a slot, validated: what the guest declares, and nothing else of its memory (promise P9).

use escape_abi::layout::{LINE, SLOT_SIZE};
use escape_abi::meta::{LIVE_RANGES_MAX, LiveRange};
use std::ops::Range;
use thiserror::Error;

/// A declaration of live ranges that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LiveError {
    /// A range reaches out of the slot.
    #[error("live range {index} (offset {offset:#x}, {len} bytes) reaches out of the slot of {SLOT_SIZE:#x} bytes")]
    OutOfSlot {
        /// Which of the ranges.
        index: usize,
        /// Its offset in the slot.
        offset: u32,
        /// Its length, bytes.
        len: u32,
    },
    /// The ranges overlap so much that together they are larger than the slot.
    #[error("live range {index} brings the sum of the ranges to {bytes} bytes, more than a slot has")]
    TooMuch {
        /// The range that was one too many.
        index: usize,
        /// Bytes of the ranges up to it.
        bytes: usize,
    },
}

/// Up to 8 ranges inside one slot, at most a slot's bytes in sum, and the lines that they touch. Ranges may overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveSet {
    ranges: [LiveRange; LIVE_RANGES_MAX],
    n_ranges: usize,
    /// First and end line, ascending, neither overlapping nor adjacent.
    spans: [(usize, usize); LIVE_RANGES_MAX],
    n_spans: usize,
}

impl LiveSet {
    /// Validates ranges as the guest or a peer declares them; entries of length 0 are unused and skipped.
    pub fn new(declared: &[LiveRange]) -> Result<Self, LiveError> {
        let mut set = Self::default();
        let mut bytes = 0usize;
        for (index, range) in declared.iter().enumerate() {
            if range.len == 0 {
                continue;
            }
            let LiveRange { offset, len } = *range;
            let (start, count) = (offset as usize, len as usize);
            if start.checked_add(count).is_none_or(|end| end > SLOT_SIZE) {
                return Err(LiveError::OutOfSlot { index, offset, len });
            }
            bytes = bytes.saturating_add(count);
            let (Some(place), Some(span)) = (set.ranges.get_mut(set.n_ranges), set.spans.get_mut(set.n_ranges)) else {
                return Err(LiveError::TooMuch { index, bytes });
            };
            if bytes > SLOT_SIZE {
                return Err(LiveError::TooMuch { index, bytes });
            }
            *place = *range;
            *span = (start / LINE, (start + count).div_ceil(LINE));
            set.n_ranges += 1;
        }
        set.merge_spans();
        Ok(set)
    }

    /// Sorts the spans and joins those that touch.
    fn merge_spans(&mut self) {
        let mut spans = self.spans;
        let used = spans.get_mut(..self.n_ranges).unwrap_or_default();
        used.sort_unstable();
        self.n_spans = 0;
        for (first, end) in used.iter().copied() {
            match self.n_spans.checked_sub(1).and_then(|last| self.spans.get_mut(last)) {
                Some(last) if first <= last.1 => last.1 = last.1.max(end),
                _ => {
                    if let Some(span) = self.spans.get_mut(self.n_spans) {
                        *span = (first, end);
                        self.n_spans += 1;
                    }
                }
            }
        }
    }

    /// The ranges, as declared.
    pub fn ranges(&self) -> &[LiveRange] {
        self.ranges.get(..self.n_ranges).unwrap_or_default()
    }

    /// The ranges as bytes of the slot.
    pub fn byte_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.ranges().iter().map(|r| r.offset as usize..r.offset as usize + r.len as usize)
    }

    /// The lines that the ranges touch: ascending, disjoint, with gaps between.
    pub fn spans(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.spans.iter().take(self.n_spans).map(|(first, end)| *first..*end)
    }

    /// Number of lines that the ranges touch.
    pub fn lines(&self) -> usize {
        self.spans().map(|span| span.len()).sum()
    }

    /// Do all of these lines belong to the set?
    pub fn contains_lines(&self, lines: &Range<usize>) -> bool {
        self.spans().any(|span| span.start <= lines.start && lines.end <= span.end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn range(offset: u32, len: u32) -> LiveRange {
        LiveRange { offset, len }
    }

    #[test]
    fn lies_are_named() {
        let slot = SLOT_SIZE as u32;
        assert_eq!(
            LiveSet::new(&[range(0, 64), range(slot - 1, 2)]),
            Err(LiveError::OutOfSlot { index: 1, offset: slot - 1, len: 2 })
        );
        assert!(LiveSet::new(&[range(u32::MAX, u32::MAX)]).is_err());
        assert!(matches!(LiveSet::new(&[range(0, slot), range(0, 1)]), Err(LiveError::TooMuch { index: 1, .. })));
        assert!(matches!(LiveSet::new(&[range(0, 1); 9]), Err(LiveError::TooMuch { index: 8, .. })));
        assert_eq!(LiveSet::new(&[range(0, slot), range(9, 0)]).unwrap().lines(), SLOT_SIZE / LINE);
    }

    #[test]
    fn spans_are_merged_in_order() {
        let set = LiveSet::new(&[range(1000, 10), range(0, 65), range(128, 1), range(100, 5)]).unwrap();
        assert_eq!(set.spans().collect::<Vec<_>>(), [0..3, 15..16]);
        assert_eq!((set.lines(), set.ranges().len()), (4, 4));
        assert!(set.contains_lines(&(1..3)) && !set.contains_lines(&(2..4)) && !set.contains_lines(&(14..16)));
    }

    proptest! {
        /// Any two ranges in any relation (Allen's 13 and the slot's borders among them) touch exactly their own lines.
        #[test]
        fn spans_are_exactly_the_lines_touched(declared in proptest::collection::vec((0u32..1200, 0u32..400), 0..8)) {
            let declared: Vec<_> = declared.into_iter().map(|(o, l)| range(o, l)).collect();
            let set = LiveSet::new(&declared).unwrap();
            let touched: std::collections::BTreeSet<usize> =
                declared.iter().flat_map(|r| r.offset..r.offset + r.len).map(|byte| byte as usize / LINE).collect();
            prop_assert_eq!(set.spans().flatten().collect::<Vec<_>>(), touched.into_iter().collect::<Vec<_>>());
            prop_assert!(set.spans().zip(set.spans().skip(1)).all(|(a, b)| a.end < b.start));
        }
    }
}
