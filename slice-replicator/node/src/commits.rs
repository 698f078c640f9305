//! What captured generations cover, until they are committed.

use escape_proto::SliceId;
use escape_vmm::commit::Coverage;
use std::collections::VecDeque;

/// Captures of one slice that wait for their commit at the same time; more means that the standby is far behind, and
/// then the oldest frontiers are merged into their successors (releasing later, never earlier).
const OUTSTANDING_MAX: usize = 1024;

/// Frontiers of captured, not yet committed generations, by slot.
#[derive(Debug)]
pub struct Commits {
    by_slot: Vec<VecDeque<Coverage>>,
}

impl Commits {
    /// Nothing captured.
    pub fn new(n_slots: u32) -> Self {
        let mut by_slot = Vec::new();
        by_slot.resize_with(n_slots as usize, VecDeque::new);
        Self { by_slot }
    }

    /// A generation was captured.
    pub fn captured(&mut self, slot: u32, coverage: Coverage) {
        if let Some(outstanding) = self.by_slot.get_mut(slot as usize) {
            if outstanding.len() >= OUTSTANDING_MAX {
                outstanding.pop_front();
            }
            outstanding.push_back(coverage);
        }
    }

    /// Everything up to `generation` is committed: the frontier to release by, if that is news.
    pub fn committed(&mut self, slice: SliceId, generation: u64) -> Option<Coverage> {
        let outstanding = self.by_slot.get_mut(slice.slot as usize)?;
        let mut frontier = None;
        while outstanding.front().is_some_and(|c| c.incarnation != slice.inc || c.generation <= generation) {
            frontier = outstanding.pop_front().filter(|c| c.incarnation == slice.inc).or(frontier);
        }
        frontier
    }

    /// The slot has another slice, or none.
    pub fn forget(&mut self, slot: u32) {
        if let Some(outstanding) = self.by_slot.get_mut(slot as usize) {
            outstanding.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(generation: u64) -> Coverage {
        Coverage { incarnation: 1, generation, snd_nxt: generation as u32, rcv_nxt: 0 }
    }

    #[test]
    fn a_commit_releases_by_the_newest_frontier_that_it_covers() {
        let mut c = Commits::new(2);
        let slice = SliceId { slot: 1, inc: 1 };
        (5..=8).for_each(|g| c.captured(1, coverage(g)));
        assert_eq!(c.committed(slice, 4), None);
        assert_eq!(c.committed(slice, 6), Some(coverage(6)));
        assert_eq!(c.committed(slice, 6), None, "once");
        assert_eq!(c.committed(SliceId { slot: 1, inc: 2 }, 9), None, "another incarnation releases nothing");
    }
}
