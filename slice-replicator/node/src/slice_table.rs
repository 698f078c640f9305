//! The slices that this node owns, by slot and by group.

use escape_proto::{Flow, GroupId, SliceId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How far an owned slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Bound by the guest; nothing captured yet, so nobody outside knows it.
    New,
    /// Its image waits to be copied into the arena and attached by the guest (T6).
    Plugging,
    /// It runs.
    Running,
    /// At rest, and held there: it may move (T9). What it is was captured.
    Frozen,
    /// Its last generation is captured; CLOSE waits for its acknowledgement.
    Closing,
}

/// An owned slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedSlice {
    /// Its id.
    pub id: SliceId,
    /// Its group.
    pub group: GroupId,
    /// Its connection.
    pub flow: Flow,
    /// How far it is.
    pub stage: Stage,
}

/// Owned slices. At most one per slot, so never more than the arena has slots.
#[derive(Debug, Default)]
pub struct SliceTable {
    by_slot: Vec<Option<OwnedSlice>>,
    by_group: BTreeMap<GroupId, BTreeSet<u32>>,
    /// The newest slice of each client address, where all connections of a client are one slice; else nothing.
    by_client: Option<HashMap<[u8; 4], SliceId>>,
    count: usize,
}

impl SliceTable {
    /// An empty table for an arena of `n_slots`.
    pub fn new(n_slots: u32, slice_per_client: bool) -> Self {
        let by_client = slice_per_client.then(HashMap::new);
        Self { by_slot: vec![None; n_slots as usize], by_group: BTreeMap::new(), by_client, count: 0 }
    }

    /// The slice of a client address, where there is one for all of a client's connections.
    pub fn of_client(&self, ip: [u8; 4]) -> Option<&OwnedSlice> {
        self.get(*self.by_client.as_ref()?.get(&ip)?)
    }

    /// Number of owned slices.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// The slice in a slot.
    pub fn at(&self, slot: u32) -> Option<&OwnedSlice> {
        self.by_slot.get(slot as usize)?.as_ref()
    }

    /// The slice in a slot, to change its stage.
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut OwnedSlice> {
        self.by_slot.get_mut(slot as usize)?.as_mut()
    }

    /// The slice, if exactly this incarnation of the slot is owned.
    pub fn get(&self, id: SliceId) -> Option<&OwnedSlice> {
        self.at(id.slot).filter(|s| s.id == id)
    }

    /// Adds a slice; false if the slot is taken or outside the arena.
    pub fn insert(&mut self, slice: OwnedSlice) -> bool {
        let Some(entry @ None) = self.by_slot.get_mut(slice.id.slot as usize) else { return false };
        *entry = Some(slice);
        if let Some(by_client) = &mut self.by_client {
            by_client.insert(slice.flow.ip, slice.id);
        }
        self.by_group.entry(slice.group).or_default().insert(slice.id.slot);
        self.count += 1;
        true
    }

    /// Removes a slice if exactly this incarnation is there.
    pub fn remove(&mut self, id: SliceId) -> Option<OwnedSlice> {
        let entry = self.by_slot.get_mut(id.slot as usize)?;
        let slice = entry.take_if(|s| s.id == id)?;
        if let Some(slots) = self.by_group.get_mut(&slice.group) {
            slots.remove(&id.slot);
        }
        if let Some(by_client) = &mut self.by_client
            && by_client.get(&slice.flow.ip) == Some(&id)
        {
            by_client.remove(&slice.flow.ip);
        }
        self.count -= 1;
        Some(slice)
    }

    /// Slices of a group, lowest slot first.
    pub fn of_group(&self, group: GroupId) -> impl Iterator<Item = &OwnedSlice> {
        self.by_group.get(&group).into_iter().flatten().filter_map(|slot| self.at(*slot))
    }

    /// Changes every slice.
    pub fn for_each_mut(&mut self, change: impl FnMut(&mut OwnedSlice)) {
        self.by_slot.iter_mut().flatten().for_each(change);
    }

    /// All slices.
    pub fn iter(&self) -> impl Iterator<Item = &OwnedSlice> {
        self.by_slot.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(slot: u32, inc: u64, group: u32) -> OwnedSlice {
        let flow = Flow { ip: [10, 0, 0, 1], port: 1000, service_port: 80 };
        OwnedSlice { id: SliceId { slot, inc }, group: GroupId(group), flow, stage: Stage::New }
    }

    #[test]
    fn a_slot_holds_one_slice_and_a_stale_id_finds_nothing() {
        let mut t = SliceTable::new(4, false);
        assert!(t.insert(slice(3, 1, 7)));
        assert!(!t.insert(slice(3, 2, 7)), "taken");
        assert!(!t.insert(slice(4, 1, 7)), "outside");
        assert!(t.get(SliceId { slot: 3, inc: 2 }).is_none());
        assert!(t.remove(SliceId { slot: 3, inc: 2 }).is_none());
        assert_eq!(t.of_group(GroupId(7)).count(), 1);
        assert!(t.remove(SliceId { slot: 3, inc: 1 }).is_some());
        assert_eq!((t.len(), t.of_group(GroupId(7)).count()), (0, 0));
    }
    #[test]
    fn a_client_has_its_newest_slice() {
        let mut t = SliceTable::new(4, true);
        let ip = [10, 0, 0, 1];
        assert!(t.insert(slice(0, 1, 7)) && t.insert(slice(1, 1, 7)));
        assert_eq!(t.of_client(ip).map(|s| s.id.slot), Some(1));
        assert!(t.remove(SliceId { slot: 0, inc: 1 }).is_some());
        assert_eq!(t.of_client(ip).map(|s| s.id.slot), Some(1), "an older one's end changes nothing");
        assert!(t.remove(SliceId { slot: 1, inc: 1 }).is_some());
        assert!(t.of_client(ip).is_none());
        let mut t = SliceTable::new(4, false);
        assert!(t.insert(slice(0, 1, 7)) && t.of_client(ip).is_none());
    }
}
