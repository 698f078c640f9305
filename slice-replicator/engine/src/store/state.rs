//! All records and their versions.

use super::record::{ClusterRecord, Key, Record};
use super::txn::{Changes, Conflict, Txn};
use escape_proto::{BucketTable, GroupId, GroupRecord, LeaseRecord, NodeId, NodeRecord, QuarantineRecord, Revision};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A record and the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Revision of the transaction that put it.
    pub version: Revision,
    /// The record.
    pub record: Record,
}

/// The store's contents at a revision. Serialisable as it is; a file may also keep the entries one by one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoreState {
    revision: Revision,
    entries: BTreeMap<Key, Entry>,
}

impl Default for StoreState {
    fn default() -> Self {
        Self { revision: Revision(0), entries: BTreeMap::new() }
    }
}

impl StoreState {
    /// What was read from a file: the revision and all entries.
    pub fn from_entries(revision: Revision, entries: impl IntoIterator<Item = Entry>) -> Self {
        Self { revision, entries: entries.into_iter().map(|e| (e.record.key(), e)).collect() }
    }

    /// Revision of the latest transaction; 0 = empty.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// All entries, in the order of their keys.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Version of a record; 0 = there is none.
    pub fn version(&self, key: Key) -> Revision {
        self.entries.get(&key).map_or(Revision(0), |e| e.version)
    }

    /// A record.
    pub fn get(&self, key: Key) -> Option<&Record> {
        self.entries.get(&key).map(|e| &e.record)
    }

    /// Applies a transaction, all or nothing.
    ///
    /// # Errors
    /// [`Conflict`] names the first record that is not at the expected version.
    pub fn apply(&mut self, txn: &Txn) -> Result<Changes, Conflict> {
        for compare in &txn.compare {
            let found = self.version(compare.key);
            if found != compare.version {
                return Err(Conflict { key: compare.key, expected: compare.version, found });
            }
        }
        let version = Revision(self.revision.0 + 1);
        self.revision = version;
        for record in &txn.put {
            self.entries.insert(record.key(), Entry { version, record: record.clone() });
        }
        for key in &txn.delete {
            self.entries.remove(key);
        }
        Ok(Changes { revision: version, put: txn.put.clone(), deleted: txn.delete.clone() })
    }

    /// Takes over what a transaction changed elsewhere (a reader's copy follows the store).
    pub fn follow(&mut self, changes: &Changes) {
        self.revision = changes.revision;
        for record in &changes.put {
            self.entries.insert(record.key(), Entry { version: changes.revision, record: record.clone() });
        }
        for key in &changes.deleted {
            self.entries.remove(key);
        }
    }

    /// The cluster record.
    pub fn cluster(&self) -> Option<&ClusterRecord> {
        match self.get(Key::Cluster) {
            Some(Record::Cluster(r)) => Some(r),
            _ => None,
        }
    }

    /// A node's record.
    pub fn node(&self, node: NodeId) -> Option<&NodeRecord> {
        match self.get(Key::Node(node)) {
            Some(Record::Node(r)) => Some(r),
            _ => None,
        }
    }

    /// A group's record.
    pub fn group(&self, group: GroupId) -> Option<&GroupRecord> {
        match self.get(Key::Group(group)) {
            Some(Record::Group(r)) => Some(r),
            _ => None,
        }
    }

    /// Placement of new flows.
    pub fn buckets(&self) -> Option<&BucketTable> {
        match self.get(Key::Buckets) {
            Some(Record::Buckets(r)) => Some(r),
            _ => None,
        }
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.entries.values().filter_map(|e| match &e.record {
            Record::Node(r) => Some(r),
            _ => None,
        })
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = &GroupRecord> {
        self.entries.values().filter_map(|e| match &e.record {
            Record::Group(r) => Some(r),
            _ => None,
        })
    }

    /// Suspects and slices that were given up.
    pub fn quarantine(&self) -> impl Iterator<Item = &QuarantineRecord> {
        self.entries.values().filter_map(|e| match &e.record {
            Record::Quarantine(r) => Some(r),
            _ => None,
        })
    }

    /// All leases.
    pub fn leases(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.entries.values().filter_map(|e| match &e.record {
            Record::Lease(r) => Some(r),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::txn::Compare;
    use super::*;
    use escape_proto::{Incarnation, Member};

    const OWNER: Member = Member { node: NodeId(1), inc: Incarnation(1) };

    fn group(epoch: u64) -> Record {
        let mut r = GroupRecord::fresh(GroupId(7), OWNER);
        r.epoch.0 = epoch;
        Record::Group(r)
    }

    fn swap(version: u64, epoch: u64) -> Txn {
        let compare = vec![Compare { key: Key::Group(GroupId(7)), version: Revision(version) }];
        Txn { compare, put: vec![group(epoch)], delete: vec![] }
    }

    #[test]
    fn compare_and_swap_is_all_or_nothing() {
        let mut s = StoreState::default();
        assert_eq!(s.apply(&swap(0, 1)).unwrap().revision, Revision(1));
        let before = s.clone();
        let conflict = s.apply(&swap(0, 2)).unwrap_err();
        assert_eq!((conflict.expected, conflict.found), (Revision(0), Revision(1)));
        assert_eq!(s, before);
        s.apply(&swap(1, 2)).unwrap();
        assert_eq!(s.group(GroupId(7)).unwrap().epoch.0, 2);
        assert_eq!(s.revision(), Revision(2));
    }

    #[test]
    fn a_deleted_record_is_as_if_it_had_never_been() {
        let mut s = StoreState::default();
        let mut reader = StoreState::default();
        reader.follow(&s.apply(&swap(0, 1)).unwrap());
        let key = Key::Group(GroupId(7));
        let delete = |version| Txn { compare: vec![Compare { key, version }], put: vec![], delete: vec![key] };
        assert!(s.apply(&delete(Revision(9))).is_err());
        reader.follow(&s.apply(&delete(Revision(1))).unwrap());
        assert_eq!((s.get(key), s.version(key), s.revision()), (None, Revision(0), Revision(2)));
        assert_eq!(s, reader);
    }

    #[test]
    fn survives_being_written_and_read() {
        let mut s = StoreState::default();
        s.apply(&swap(0, 1)).unwrap();
        let bytes = postcard::to_allocvec(&s).unwrap();
        assert_eq!(postcard::from_bytes::<StoreState>(&bytes).unwrap(), s);
        assert_eq!(StoreState::from_entries(s.revision(), s.entries().cloned()), s);
    }
}
