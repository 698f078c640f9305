//! A transaction in the making.

use super::command::{Note, Receiver};
use crate::store::{Compare, Key, Record, StoreState, Txn};
use escape_proto::{
    BucketTable, FromOrchestrator, GroupId, GroupRecord, LeaseRecord, Member, MoveRecord, NodeId, NodeRecord,
    QuarantineRecord,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is done once the transaction is in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    /// A message.
    Send(Receiver, FromOrchestrator),
    /// All records, as they are then.
    SendAll(Receiver),
    /// A note.
    Note(Note),
}

/// The store as it will be: what is there, and on top what the draft puts and deletes. Remembers all that was looked at, so that the
/// transaction compares it.
pub(super) struct Draft<'a> {
    store: &'a StoreState,
    put: BTreeMap<Key, Record>,
    deleted: BTreeSet<Key>,
    looked_at: BTreeSet<Key>,
    pub effects: Vec<Effect>,
}

impl<'a> Draft<'a> {
    pub const fn new(store: &'a StoreState) -> Self {
        Self { store, put: BTreeMap::new(), deleted: BTreeSet::new(), looked_at: BTreeSet::new(), effects: Vec::new() }
    }

    pub const fn store(&self) -> &StoreState {
        self.store
    }

    pub fn get(&mut self, key: Key) -> Option<&Record> {
        self.looked_at.insert(key);
        if self.deleted.contains(&key) {
            return None;
        }
        self.put.get(&key).or_else(|| self.store.get(key))
    }

    pub fn node(&mut self, node: NodeId) -> Option<NodeRecord> {
        match self.get(Key::Node(node)) {
            Some(Record::Node(r)) => Some(r.clone()),
            _ => None,
        }
    }

    pub fn is_up(&mut self, member: Member) -> bool {
        self.node(member.node).is_some_and(|n| n.is_up(member))
    }

    pub fn group(&mut self, group: GroupId) -> Option<GroupRecord> {
        match self.get(Key::Group(group)) {
            Some(Record::Group(r)) => Some(*r),
            _ => None,
        }
    }

    pub fn buckets(&mut self) -> BucketTable {
        match self.get(Key::Buckets) {
            Some(Record::Buckets(r)) => r.clone(),
            _ => BucketTable::default(),
        }
    }

    /// All groups as they will be.
    pub fn groups(&self) -> Vec<GroupRecord> {
        self.all(|r| match r {
            Record::Group(r) => Some(*r),
            _ => None,
        })
    }

    /// All nodes as they will be.
    pub fn nodes(&self) -> Vec<NodeRecord> {
        self.all(|r| match r {
            Record::Node(r) => Some(r.clone()),
            _ => None,
        })
    }

    /// All leases as they will be.
    pub fn leases(&self) -> Vec<LeaseRecord> {
        self.all(|r| match r {
            Record::Lease(r) => Some(*r),
            _ => None,
        })
    }

    /// All suspects and slices that were given up, as they will be.
    pub fn quarantine(&self) -> Vec<QuarantineRecord> {
        self.all(|r| match r {
            Record::Quarantine(r) => Some(r.clone()),
            _ => None,
        })
    }

    /// All moves that somebody has not put in order yet, as they will be.
    pub fn moves(&self) -> Vec<MoveRecord> {
        self.all(|r| match r {
            Record::Move(r) => Some(r.clone()),
            _ => None,
        })
    }

    pub fn put(&mut self, record: Record) {
        let key = record.key();
        self.looked_at.insert(key);
        self.deleted.remove(&key);
        self.put.insert(key, record);
    }

    pub fn delete(&mut self, key: Key) {
        self.looked_at.insert(key);
        self.put.remove(&key);
        self.deleted.insert(key);
    }

    pub fn send(&mut self, to: Receiver, message: FromOrchestrator) {
        self.effects.push(Effect::Send(to, message));
    }

    pub fn note(&mut self, note: Note) {
        self.effects.push(Effect::Note(note));
    }

    /// The transaction (none if nothing is put) and what follows from it.
    pub fn finish(self) -> (Option<Txn>, Vec<Effect>) {
        let store = self.store;
        let compare = self.looked_at.into_iter().map(|key| Compare { key, version: store.version(key) });
        let txn = Txn {
            compare: compare.collect(),
            put: self.put.into_values().collect(),
            delete: self.deleted.into_iter().collect(),
        };
        ((!txn.put.is_empty() || !txn.delete.is_empty()).then_some(txn), self.effects)
    }

    fn all<T>(&self, pick: impl Fn(&Record) -> Option<T>) -> Vec<T> {
        let kept = self
            .store
            .entries()
            .map(|e| &e.record)
            .filter(|r| !self.put.contains_key(&r.key()) && !self.deleted.contains(&r.key()));
        kept.chain(self.put.values()).filter_map(pick).collect()
    }
}
