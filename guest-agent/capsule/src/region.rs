//! Declared memory: what a capsule may use of the slot, and what of it is alive now.

use escape_abi::layout::SLOT_SIZE;
use escape_abi::meta::{LIVE_RANGES_MAX, LiveRange};

/// Regions that one capsule may declare.
pub const REGIONS_MAX: usize = 4;

/// A part of the slot that a capsule declares as its own, for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Region {
    /// First byte, from the slot's start.
    pub offset: u32,
    /// Length, bytes.
    pub len: u32,
}

impl Region {
    /// First byte behind the region; `None` if it leaves the slot.
    pub(crate) fn end(self) -> Option<u32> {
        self.offset.checked_add(self.len).filter(|end| *end as usize <= SLOT_SIZE)
    }

    /// The two have a byte in common.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        match (self.end(), other.end()) {
            (Some(a), Some(b)) => self.offset < b && other.offset < a,
            _ => true,
        }
    }

    /// `range` lies inside.
    pub(crate) fn contains(self, range: LiveRange) -> bool {
        let end = range.offset.checked_add(range.len);
        range.offset >= self.offset && matches!((end, self.end()), (Some(r), Some(s)) if r <= s)
    }
}

/// The live ranges of a slot as they are put together at `put_ref`: at most [`LIVE_RANGES_MAX`].
///
/// When there are more, the last one is widened over the gap: too much is declared then, never too little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveSet {
    ranges: [LiveRange; LIVE_RANGES_MAX],
    n: usize,
}

impl LiveSet {
    /// Nothing lives.
    pub const fn new() -> Self {
        Self { ranges: [LiveRange { offset: 0, len: 0 }; LIVE_RANGES_MAX], n: 0 }
    }

    /// Adds a range; empty ones are left out.
    pub fn add(&mut self, offset: u32, len: u32) {
        if len == 0 {
            return;
        }
        if let Some(place) = self.ranges.get_mut(self.n) {
            *place = LiveRange { offset, len };
            self.n += 1;
        } else if let Some(last) = self.ranges.last_mut() {
            let end = last.offset.saturating_add(last.len).max(offset.saturating_add(len));
            last.offset = last.offset.min(offset);
            last.len = end - last.offset;
        }
    }

    /// The live part of a ring buffer of `capacity` bytes at `base`: `len` bytes from `start` on, which may wrap.
    pub fn add_ring(&mut self, base: u32, capacity: u32, start: u32, len: u32) {
        let (start, len) = (start.min(capacity), len.min(capacity));
        let first = len.min(capacity - start);
        self.add(base + start, first);
        self.add(base, len - first);
    }

    /// As it is published in [`escape_abi::SlotMeta`].
    pub const fn ranges(&self) -> [LiveRange; LIVE_RANGES_MAX] {
        self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_wrap_into_two_ranges_and_nothing_is_lost_when_full() {
        let mut set = LiveSet::new();
        set.add_ring(1000, 100, 90, 30);
        set.add_ring(1000, 100, 10, 0);
        assert_eq!(set.ranges()[..3], [(1090, 10), (1000, 20), (0, 0)].map(|(offset, len)| LiveRange { offset, len }));
        for i in 0..20 {
            set.add(5000 + i * 10, 5);
        }
        assert_eq!(set.ranges()[7], LiveRange { offset: 5050, len: 145 });
    }
}
