//! A set of 64-byte lines of one slot.

use escape_abi::layout::SLOT_LINES;
use std::ops::Range;

const WORDS: usize = SLOT_LINES / 64;

/// A bitmap over the lines of a slot. Lines outside the slot are in no set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineSet([u64; WORDS]);

impl Default for LineSet {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl LineSet {
    /// Is this line in the set?
    pub fn contains(&self, line: usize) -> bool {
        self.0.get(line / 64).is_some_and(|word| word >> (line % 64) & 1 == 1)
    }

    /// Adds all lines of a range.
    pub fn insert(&mut self, lines: Range<usize>) {
        for (at, mask) in masks(lines) {
            if let Some(word) = self.0.get_mut(at) {
                *word |= mask;
            }
        }
    }

    /// Are all lines of a range in the set?
    pub fn contains_all(&self, lines: Range<usize>) -> bool {
        lines.end <= SLOT_LINES && masks(lines).all(|(at, mask)| self.0.get(at).is_some_and(|word| word & mask == mask))
    }

    /// Removes all lines.
    pub fn clear(&mut self) {
        self.0 = [0; WORDS];
    }

    /// No line is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// The words that a range touches, each with the bits of the range in it.
fn masks(lines: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let end = lines.end.min(SLOT_LINES);
    let mut next = lines.start;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let (at, first_bit) = (next / 64, next % 64);
        let bits = (64 - first_bit).min(end - next);
        next += bits;
        Some((at, (u64::MAX >> (64 - bits)) << first_bit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_list_of_booleans(
            ranges in proptest::collection::vec((0usize..SLOT_LINES + 50, 0usize..300), 0..6),
            ask in (0usize..SLOT_LINES, 0usize..200),
        ) {
            let mut set = LineSet::default();
            let mut model = vec![false; SLOT_LINES];
            for (first, len) in ranges {
                set.insert(first..first + len);
                model.iter_mut().skip(first).take(len).for_each(|line| *line = true);
            }
            for (line, inside) in model.iter().enumerate() {
                prop_assert_eq!(set.contains(line), *inside);
            }
            prop_assert_eq!(set.is_empty(), !model.contains(&true));
            let asked = ask.0..ask.0 + ask.1;
            let inside = asked.clone().all(|line| model.get(line).copied().unwrap_or(false));
            prop_assert_eq!(set.contains_all(asked), inside);
        }
    }
}
