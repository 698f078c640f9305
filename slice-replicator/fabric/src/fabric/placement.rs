use std::collections::{BTreeMap, BTreeSet};

use super::FabricError;
use super::ruleset::{MAY_SEND, MIRROR, OWNER};
use crate::nft::{SetElement, Transaction};
use crate::{GroupId, NodeId};

/// Where a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupPlace {
    /// The group.
    pub group: GroupId,
    /// Who receives its clients' frames and alone may answer; `None`: they are dropped and counted.
    pub owner: Option<NodeId>,
    /// Who receives copies of its clients' frames.
    pub mirror: Option<NodeId>,
}

/// Interfaces of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Interfaces {
    pub(super) owner: Option<u32>,
    pub(super) mirror: Option<u32>,
}

/// The mark of a group's flows.
pub(super) fn mark_of(group: GroupId) -> Result<u32, FabricError> {
    group.checked_add(1).ok_or(FabricError::BadGroup { group })
}

/// The group of a mark; `None` for mark 0.
pub(super) fn group_of(mark: &[u8]) -> Option<GroupId> {
    u32::from_ne_bytes(mark.try_into().ok()?).checked_sub(1)
}

/// What the kernel's `owner`, `mirror` and `may_send` contain, so that a change touches only what differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Placement {
    /// By mark.
    groups: BTreeMap<u32, Interfaces>,
}

impl Placement {
    /// Rebuilds the picture from the kernel's elements.
    pub(super) fn from_elements(owners: &[SetElement], mirrors: &[SetElement]) -> Self {
        let mut groups: BTreeMap<u32, Interfaces> = BTreeMap::new();
        for (mark, interface) in owners.iter().filter_map(read_element) {
            groups.entry(mark).or_default().owner = Some(interface);
        }
        for (mark, interface) in mirrors.iter().filter_map(read_element) {
            groups.entry(mark).or_default().mirror = Some(interface);
        }
        Self { groups }
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn contains(&self, mark: u32) -> bool {
        self.groups.contains_key(&mark)
    }

    /// Marks of groups that an interface owns or mirrors, with what is left of them without it.
    pub(super) fn without_interfaces(&self, gone: &BTreeSet<u32>) -> Vec<(u32, Interfaces)> {
        let keep = |interface: Option<u32>| interface.filter(|index| !gone.contains(index));
        let left = |old: &Interfaces| Interfaces { owner: keep(old.owner), mirror: keep(old.mirror) };
        let changed = self.groups.iter().filter(|(_, old)| left(old) != **old);
        changed.map(|(mark, old)| (*mark, left(old))).collect()
    }

    /// Adds to `transaction` what turns the kernel's sets into this picture with `changes`. Without `revoke` (a deliberate
    /// fault of drills) an old owner may go on sending.
    pub(super) fn plan(&self, changes: &[(u32, Interfaces)], revoke: bool, transaction: &mut Transaction) {
        let mut removed = Entries::default();
        let mut added = Entries::default();
        for (mark, new) in changes {
            let old = self.groups.get(mark).copied().unwrap_or_default();
            if old.owner != new.owner {
                removed.owner(*mark, old.owner);
                added.owner(*mark, new.owner);
            }
            if old.mirror != new.mirror {
                removed.mirror(*mark, old.mirror);
                added.mirror(*mark, new.mirror);
            }
        }
        transaction.remove_elements(OWNER, &keys(&removed.owner));
        transaction.remove_elements(MIRROR, &keys(&removed.mirror));
        if revoke {
            transaction.remove_elements(MAY_SEND, &keys(&removed.may_send));
        }
        transaction.add_elements(OWNER, &added.owner);
        transaction.add_elements(MIRROR, &added.mirror);
        transaction.add_elements(MAY_SEND, &added.may_send);
    }

    /// Remembers `changes` that the kernel has made.
    pub(super) fn record(&mut self, changes: &[(u32, Interfaces)]) {
        for (mark, new) in changes {
            if *new == Interfaces::default() {
                self.groups.remove(mark);
            } else {
                self.groups.insert(*mark, *new);
            }
        }
    }
}

/// Elements of the three sets.
#[derive(Debug, Default)]
struct Entries {
    owner: Vec<(Vec<u8>, Vec<u8>)>,
    mirror: Vec<(Vec<u8>, Vec<u8>)>,
    may_send: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entries {
    fn owner(&mut self, mark: u32, interface: Option<u32>) {
        if let Some(interface) = interface {
            let (mark, interface) = (mark.to_ne_bytes(), interface.to_ne_bytes());
            self.owner.push((mark.to_vec(), interface.to_vec()));
            self.may_send.push(([mark, interface].concat(), Vec::new()));
        }
    }

    fn mirror(&mut self, mark: u32, interface: Option<u32>) {
        self.mirror.extend(interface.map(|index| (mark.to_ne_bytes().to_vec(), index.to_ne_bytes().to_vec())));
    }
}

fn keys(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<&[u8]> {
    entries.iter().map(|(key, _)| key.as_slice()).collect()
}

fn read_element(element: &SetElement) -> Option<(u32, u32)> {
    let word = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    Some((word(&element.key)?, word(&element.value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_zero_is_nobodys_and_the_last_group_has_none() {
        assert_eq!(group_of(&0u32.to_ne_bytes()), None);
        assert_eq!(group_of(&1u32.to_ne_bytes()), Some(0));
        assert!(matches!(mark_of(u32::MAX), Err(FabricError::BadGroup { .. })));
        assert_eq!(mark_of(7).ok(), Some(8));
    }

    #[test]
    fn a_vanished_interface_leaves_the_rest_of_its_groups() {
        let mut placement = Placement::default();
        let both = Interfaces { owner: Some(3), mirror: Some(4) };
        placement.record(&[(1, both), (2, Interfaces { owner: Some(5), mirror: None })]);
        let left = placement.without_interfaces(&BTreeSet::from([3]));
        assert_eq!(left, [(1, Interfaces { owner: None, mirror: Some(4) })]);
        placement.record(&placement.without_interfaces(&BTreeSet::from([3, 4, 5])));
        assert_eq!(placement.len(), 0);
    }
}
