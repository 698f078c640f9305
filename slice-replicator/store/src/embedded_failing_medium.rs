//! A medium that fails and comes back.
#![allow(clippy::unwrap_used)]

use super::{EmbeddedStore, open_database};
use crate::CommitError;
use escape_engine::store::{Compare, Key, Record, Txn};
use escape_proto::{GroupId, GroupRecord, Incarnation, Member, NodeId, Revision};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Memory that outlives the database, and fails once its budget of calls is used up (negative: never).
#[derive(Clone, Debug)]
struct Medium {
    memory: Arc<InMemoryBackend>,
    budget: Arc<AtomicI64>,
}

impl Medium {
    fn spend(&self) -> io::Result<()> {
        match self.budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n > 0).then_some(n - 1)) {
            Err(0) => Err(io::Error::other("the medium is gone")),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> Result<u64, io::Error> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.spend().and_then(|()| self.memory.set_len(len))
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.spend().and_then(|()| self.memory.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.spend().and_then(|()| self.memory.write(offset, data))
    }
}

fn put(epoch: u64, at: u64) -> Txn {
    let owner = Member { node: NodeId(1), inc: Incarnation(1) };
    let mut group = GroupRecord::fresh(GroupId(7), owner);
    group.epoch.0 = epoch;
    let compare = vec![Compare { key: Key::Group(GroupId(7)), version: Revision(at) }];
    Txn { compare, put: vec![Record::Group(group)], delete: vec![] }
}

/// Fails after every possible number of calls: the transaction is in the store afterwards or it is not, the first one
/// always is, and the same transaction again makes an end of it.
#[test]
fn a_failing_medium_never_leaves_half_a_transaction() {
    for budget in 0..200 {
        let medium = Medium { memory: Arc::new(InMemoryBackend::new()), budget: Arc::new(AtomicI64::new(-1)) };
        let again = medium.clone();
        let opener = Box::new(move || open_database("test", again.clone()));
        let mut store = EmbeddedStore::from_opener(opener, "test".into(), None).unwrap();
        store.commit(&put(1, 0)).unwrap();
        medium.budget.store(budget, Ordering::SeqCst);
        let outcome = store.commit(&put(2, 1));
        if outcome.is_ok() {
            assert!(budget > 0, "the medium never failed");
            return;
        }
        assert!(matches!(outcome, Err(CommitError::Unavailable(_))), "{outcome:?}");
        assert!(matches!(store.commit(&put(2, 1)), Err(CommitError::Unavailable(_))), "still gone");
        medium.budget.store(-1, Ordering::SeqCst);
        match store.commit(&put(2, 1)) {
            Ok(changes) => assert_eq!(changes.revision, Revision(2)),
            Err(CommitError::Conflict(conflict)) => assert_eq!(conflict.found, Revision(2), "it had been written"),
            Err(other) => panic!("budget {budget}: {other}"),
        }
        assert_eq!(store.state().group(GroupId(7)).unwrap().epoch.0, 2);
    }
    panic!("a commit never needs 200 calls");
}
