//! Slices whose state changed without output: they are captured within a limit.

use escape_proto::SliceId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a slot's slice waits for.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    /// Incarnation that changed since its last capture; 0: none.
    inc: u64,
    /// By when it is to be captured, microseconds.
    due: u64,
    /// The slot has its entry in the heap.
    queued: bool,
}

/// Slices with the time by which to capture each. A slot has one entry at most however often its guest says that it
/// changed, so their number is bounded by the cell's slots.
#[derive(Debug)]
pub struct StaleSlices {
    due: BinaryHeap<Reverse<(u64, u32)>>,
    changes: Vec<Change>,
}

impl StaleSlices {
    /// None, for an arena of `n_slots`.
    pub fn new(n_slots: u32) -> Self {
        Self { due: BinaryHeap::new(), changes: vec![Change::default(); n_slots as usize] }
    }

    /// The slice changed; it is due at this time, unless it has changed since its last capture already.
    pub fn push(&mut self, due: u64, slice: SliceId) {
        let Some(change) = self.changes.get_mut(slice.slot as usize) else { return };
        if change.inc == slice.inc {
            return;
        }
        (change.inc, change.due) = (slice.inc, due);
        if !std::mem::replace(&mut change.queued, true) {
            self.due.push(Reverse((due, slice.slot)));
        }
    }

    /// The slice was captured for its output: what changed before is not stale any more.
    pub fn captured(&mut self, slice: SliceId) {
        if let Some(change) = self.changes.get_mut(slice.slot as usize).filter(|c| c.inc == slice.inc) {
            change.inc = 0;
        }
    }

    /// The next slice that is due.
    pub fn pop_due(&mut self, now: u64) -> Option<SliceId> {
        while self.due.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Reverse((_, slot)) = self.due.pop()?;
            let Some(change) = self.changes.get_mut(slot as usize) else { continue };
            if change.inc != 0 && change.due > now {
                // Captured since, and changed again.
                self.due.push(Reverse((change.due, slot)));
                continue;
            }
            change.queued = false;
            let inc = std::mem::take(&mut change.inc);
            if inc != 0 {
                return Some(SliceId { slot, inc });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_waits_once_and_comes_when_it_is_due() {
        let mut stale = StaleSlices::new(2);
        let slice = SliceId { slot: 1, inc: 7 };
        (0..100).for_each(|n| stale.push(10 + n, slice));
        stale.push(5, SliceId { slot: 2, inc: 1 });
        assert_eq!((stale.due.len(), stale.pop_due(9)), (1, None));
        assert_eq!((stale.pop_due(10), stale.pop_due(1000)), (Some(slice), None));
        let next = SliceId { slot: 1, inc: 8 };
        [slice, next, next].into_iter().for_each(|s| stale.push(20, s));
        assert_eq!(stale.pop_due(20), Some(next), "a slot's next slice takes the last one's turn");
        assert_eq!(stale.pop_due(1000), None);
    }

    #[test]
    fn a_capture_begins_the_wait_anew() {
        let mut stale = StaleSlices::new(2);
        let slice = SliceId { slot: 1, inc: 7 };
        stale.push(10, slice);
        stale.captured(slice);
        assert_eq!(stale.pop_due(10), None, "captured since it changed");
        stale.push(20, slice);
        stale.captured(slice);
        stale.push(30, slice);
        assert_eq!((stale.pop_due(29), stale.pop_due(30)), (None, Some(slice)));
        assert!(stale.due.is_empty());
    }
}
