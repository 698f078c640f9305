//! What captured generations cover, until they are committed.

use crate::stages::Marks;
use escape_proto::SliceId;
use escape_vmm::commit::Coverage;
use std::collections::VecDeque;

/// Captures of one slice that wait for their commit at the same time; more means that the standby is far behind, and
/// then the oldest frontiers are merged into their successors (releasing later, never earlier).
const OUTSTANDING_MAX: usize = 1024;

/// Frontiers of captured, not yet committed generations, by slot.
#[derive(Debug)]
pub(crate) struct Commits {
    by_slot: Vec<SlotCommits>,
}

#[derive(Debug, Default)]
struct SlotCommits {
    outstanding: VecDeque<Outstanding>,
    /// When the oldest frame was taken that no capture covers yet.
    held_at: Option<u64>,
}

/// A captured generation that waits for its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outstanding {
    /// What it covers.
    pub(crate) coverage: Coverage,
    /// When its steps were.
    pub(crate) marks: Marks,
}

impl Commits {
    /// Nothing captured.
    pub fn new(n_slots: u32) -> Self {
        let mut by_slot = Vec::new();
        by_slot.resize_with(n_slots as usize, SlotCommits::default);
        Self { by_slot }
    }

    /// A frame of this slot was taken and is held.
    pub(crate) fn held(&mut self, slot: u32, now: u64) {
        if let Some(entry) = self.by_slot.get_mut(slot as usize) {
            entry.held_at.get_or_insert(now);
        }
    }

    /// A generation was captured; returns when its steps were.
    pub(crate) fn captured(&mut self, slot: u32, coverage: Coverage, staged_at: u64) -> Marks {
        let mut marks = Marks { held_at: None, staged_at };
        if let Some(SlotCommits { outstanding, held_at }) = self.by_slot.get_mut(slot as usize) {
            marks.held_at = held_at.take();
            if outstanding.len() >= OUTSTANDING_MAX {
                outstanding.pop_front();
            }
            outstanding.push_back(Outstanding { coverage, marks });
        }
        marks
    }

    /// Everything up to `generation` is committed: the frontier to release by, if that is news.
    pub(crate) fn committed(&mut self, slice: SliceId, generation: u64) -> Option<Outstanding> {
        let outstanding = &mut self.by_slot.get_mut(slice.slot as usize)?.outstanding;
        let mut frontier = None;
        let of_slice = |c: &Coverage| c.incarnation == slice.inc;
        while outstanding.front().is_some_and(|o| !of_slice(&o.coverage) || o.coverage.generation <= generation) {
            frontier = outstanding.pop_front().filter(|o| of_slice(&o.coverage)).or(frontier);
        }
        frontier
    }

    /// The slot has another slice, or none.
    pub fn forget(&mut self, slot: u32) {
        if let Some(entry) = self.by_slot.get_mut(slot as usize) {
            entry.outstanding.clear();
            entry.held_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_vmm::commit::Connections;

    fn coverage(generation: u64) -> Coverage {
        Coverage { incarnation: 1, generation, connections: Connections::default() }
    }

    #[test]
    fn a_commit_releases_by_the_newest_frontier_that_it_covers() {
        let mut c = Commits::new(2);
        let slice = SliceId { slot: 1, inc: 1 };
        c.held(1, 70);
        c.held(1, 75);
        for g in 5..=8 {
            let marks = c.captured(1, coverage(g), 100 + g);
            assert_eq!(marks.held_at, (g == 5).then_some(70), "the oldest frame, once");
        }
        assert_eq!(c.committed(slice, 4), None);
        let newest = c.committed(slice, 6);
        assert_eq!(newest.map(|o| (o.coverage, o.marks.staged_at)), Some((coverage(6), 106)));
        assert_eq!(c.committed(slice, 6), None, "once");
        assert_eq!(c.committed(SliceId { slot: 1, inc: 2 }, 9), None, "another incarnation releases nothing");
    }
}
