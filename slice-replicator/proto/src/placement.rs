//! Placement of new flows.

use crate::ids::GroupId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `bucket/<b>`: placement of new flows. Index = bucket, value = group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BucketTable {
    /// Raised by each change.
    pub version: u64,
    /// 4,096 entries, or none before the first node has joined.
    pub groups: Vec<GroupId>,
}

impl BucketTable {
    /// Buckets of a table.
    pub const BUCKETS: usize = 4096;

    /// All buckets spread evenly over the groups given (round robin, in order).
    pub fn spread(version: u64, groups: &[GroupId]) -> Self {
        Self {
            version,
            groups: groups.iter().copied().cycle().take(if groups.is_empty() { 0 } else { Self::BUCKETS }).collect(),
        }
    }
    /// The same evenness with as few changes as possible: a bucket keeps its group if that is among those given and has not
    /// more than its share. What a change costs, nodes and fabric pay in the middle of a failover.
    pub fn respread(&self, version: u64, groups: &[GroupId]) -> Self {
        if groups.is_empty() || self.groups.len() != Self::BUCKETS {
            return Self::spread(version, groups);
        }
        let mut shares = Shares::new(groups);
        let kept: Vec<Option<GroupId>> = self.groups.iter().map(|g| Some(*g).filter(|g| shares.take(*g))).collect();
        let mut free = shares.left().into_iter();
        let groups = kept.into_iter().filter_map(|kept| kept.or_else(|| free.next())).collect();
        Self { version, groups }
    }

    /// The group of a bucket.
    pub fn group(&self, bucket: u16) -> Option<GroupId> {
        self.groups.get(usize::from(bucket)).copied()
    }
}

/// How many buckets each group may still get: all the same number, and one more for a few.
struct Shares {
    left: BTreeMap<GroupId, usize>,
    /// Groups that may have one more than the others.
    extra: usize,
}

impl Shares {
    fn new(groups: &[GroupId]) -> Self {
        let n = groups.len().max(1);
        Self { left: groups.iter().map(|g| (*g, BucketTable::BUCKETS / n)).collect(), extra: BucketTable::BUCKETS % n }
    }

    /// One bucket for this group, if it has not its share yet.
    fn take(&mut self, group: GroupId) -> bool {
        match self.left.get_mut(&group) {
            Some(0) if self.extra > 0 => {
                self.extra -= 1;
                // It has its one more: no second.
                self.left.remove(&group);
                true
            }
            Some(0) | None => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Groups for the buckets that are left, each as often as it may have one; in turns, so that neighbours differ.
    fn left(mut self) -> Vec<GroupId> {
        let mut out = Vec::new();
        while self.left.values().any(|left| *left > 0) {
            for (group, left) in self.left.iter_mut().filter(|(_, left)| **left > 0) {
                out.push(*group);
                *left -= 1;
            }
        }
        out.extend(self.left.keys().take(self.extra));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(ids: impl Iterator<Item = u32>) -> Vec<GroupId> {
        ids.map(GroupId).collect()
    }

    fn changes(a: &BucketTable, b: &BucketTable) -> usize {
        a.groups.iter().zip(&b.groups).filter(|(a, b)| a != b).count()
    }

    fn is_even(table: &BucketTable, groups: &[GroupId]) -> bool {
        let counts = groups.iter().map(|g| table.groups.iter().filter(|b| *b == g).count());
        let (least, most) = counts.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
        table.groups.len() == BucketTable::BUCKETS && most - least <= 1
    }

    #[test]
    fn placement_stays_even_and_changes_no_more_than_it_must() {
        let before = groups(0..48);
        let table = BucketTable::default().respread(1, &before);
        assert!(is_even(&table, &before));
        // The same groups in another order, as after a failover: nothing to do.
        let turned: Vec<GroupId> = before.iter().rev().copied().collect();
        assert_eq!(changes(&table, &table.respread(2, &turned)), 0);
        // A node's groups are gone, then others come.
        let fewer = groups(0..32);
        let shrunk = table.respread(3, &fewer);
        assert!(is_even(&shrunk, &fewer));
        assert_eq!(changes(&table, &shrunk), table.groups.iter().filter(|g| g.0 >= 32).count());
        let more = groups((0..32).chain(100..117));
        let grown = shrunk.respread(4, &more);
        assert!(is_even(&grown, &more));
        assert!(changes(&shrunk, &grown) <= 17 * (BucketTable::BUCKETS / 49 + 1));
        assert_eq!(grown.respread(5, &[]).groups, []);
    }
}
