//! Slices whose state changed without output: they are captured within a limit.

use escape_proto::SliceId;
use std::collections::VecDeque;

/// Slices with the time by which to capture each. A slice is here once however often its guest says that it changed, so
/// their number is bounded by the cell's slots (and those slices of them that ended within the limit).
#[derive(Debug)]
pub struct StaleSlices {
    due: VecDeque<(u64, SliceId)>,
    /// By slot: the incarnation that waits.
    queued: Vec<Option<u64>>,
}

impl StaleSlices {
    /// None, for an arena of `n_slots`.
    pub fn new(n_slots: u32) -> Self {
        Self { due: VecDeque::new(), queued: vec![None; n_slots as usize] }
    }

    /// The slice changed; it is due at this time, unless it waits already. Times must not go back.
    pub fn push(&mut self, due: u64, slice: SliceId) {
        let Some(queued) = self.queued.get_mut(slice.slot as usize) else { return };
        if *queued != Some(slice.inc) {
            *queued = Some(slice.inc);
            self.due.push_back((due, slice));
        }
    }

    /// The next slice that is due.
    pub fn pop_due(&mut self, now: u64) -> Option<SliceId> {
        if self.due.front().is_none_or(|(due, _)| *due > now) {
            return None;
        }
        let (_, slice) = self.due.pop_front()?;
        if let Some(queued) = self.queued.get_mut(slice.slot as usize) {
            queued.take_if(|inc| *inc == slice.inc);
        }
        Some(slice)
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
        assert_eq!(stale.pop_due(20), Some(slice));
        assert_eq!(stale.pop_due(20), Some(next), "a slot's next slice does not wait for the last one's turn");
    }
}
