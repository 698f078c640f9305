//! What nodes say about leases (T10).

use crate::ids::LeaseId;
use crate::record::GroupRecord;
use serde::{Deserialize, Serialize};

/// A set of leases, a bit each. At most [`Self::LEASES_MAX`], whatever a peer sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseSet(Vec<u64>);

impl LeaseSet {
    /// Leases that a set can hold: ids are below.
    pub const LEASES_MAX: u32 = 1_024;

    /// Adds a lease; one with too high an id is left out.
    pub fn insert(&mut self, lease: LeaseId) {
        if lease.0 < Self::LEASES_MAX {
            let word = (lease.0 / 64) as usize;
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            if let Some(w) = self.0.get_mut(word) {
                *w |= 1 << (lease.0 % 64);
            }
        }
    }

    /// Takes a lease out.
    pub fn remove(&mut self, lease: LeaseId) {
        if let Some(w) = self.0.get_mut((lease.0 / 64) as usize) {
            *w &= !(1 << (lease.0 % 64));
        }
    }

    /// Is it in the set? Ids that no set can hold are in every one: nothing is known of them.
    pub fn contains(&self, lease: LeaseId) -> bool {
        lease.0 >= Self::LEASES_MAX || self.0.get((lease.0 / 64) as usize).is_some_and(|w| w >> (lease.0 % 64) & 1 == 1)
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }
}

/// What a node holds, what it wants, and whether it takes new sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseReport {
    /// [`records_mark`] of the group records that the node knew: the report counts while they are the store's.
    pub mark: u64,
    /// Leases in which it has a slice or an image.
    pub held: LeaseSet,
    /// Leases of its own from which it does not allocate any more (its guest started anew, slices live on elsewhere).
    pub spent: LeaseSet,
    /// Leases that it wants to have in all.
    pub wanted: u32,
    /// Its guest is up: new flows may be placed in its groups.
    pub serves: bool,
}

/// A mark of group records: equal marks are equal records, as far as owners and standbys go. Records in the order of
/// their ids.
pub fn records_mark<'a>(groups: impl Iterator<Item = &'a GroupRecord>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for record in groups {
        hasher.update(&record.group.0.to_le_bytes());
        hasher.update(&record.epoch.0.to_le_bytes());
    }
    let mut mark = [0; 8];
    hasher.finalize_xof().fill(&mut mark);
    u64::from_le_bytes(mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, Incarnation, Member, NodeId};

    #[test]
    fn a_set_is_bounded_and_what_it_cannot_hold_counts_as_held() {
        let mut set = LeaseSet::default();
        assert!(set.is_empty() && !set.contains(LeaseId(1_023)));
        for lease in [0, 63, 64, 1_023, 1_024, u32::MAX] {
            set.insert(LeaseId(lease));
        }
        assert_eq!((set.0.len(), set.contains(LeaseId(64)), set.contains(LeaseId(65))), (16, true, false));
        assert!(set.contains(LeaseId(u32::MAX)));
        set.remove(LeaseId(64));
        set.remove(LeaseId(u32::MAX));
        assert!(!set.contains(LeaseId(64)) && set.contains(LeaseId(63)));
    }

    #[test]
    fn a_mark_changes_with_every_epoch_and_group() {
        let owner = Member { node: NodeId(1), inc: Incarnation(1) };
        let (a, b) = (GroupRecord::fresh(GroupId(1), owner), GroupRecord::fresh(GroupId(2), owner));
        let marks = [vec![], vec![a], vec![b], vec![a, b], vec![a.solo(), b]].map(|g| records_mark(g.iter()));
        for (i, mark) in marks.iter().enumerate() {
            assert_eq!(marks.iter().position(|m| m == mark), Some(i));
        }
    }
}
