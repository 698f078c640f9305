//! The store's file: what survives, and what is refused.
#![allow(clippy::unwrap_used)]

use escape_engine::store::{ClusterRecord, Compare, Key, Record, StoreState, Txn};
use escape_proto::{GroupId, GroupRecord, Incarnation, Member, NodeId, Revision};
use escape_store::{CommitError, EmbeddedStore, StoreError};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const OWNER: Member = Member { node: NodeId(1), inc: Incarnation(1) };

/// A directory that is removed at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("escape-store-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn file(&self) -> PathBuf {
        self.0.join("store.redb")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cluster(id: u8) -> Txn {
    let record = ClusterRecord {
        cluster: [id; 16],
        format: ClusterRecord::FORMAT,
        next_group: 1,
        placement_seed: 9,
        digest: None,
    };
    Txn {
        compare: vec![Compare { key: Key::Cluster, version: Revision(0) }],
        put: vec![Record::Cluster(record)],
        delete: vec![],
    }
}

fn group(n: u32, epoch: u64, at: u64) -> Txn {
    let mut record = GroupRecord::fresh(GroupId(n), OWNER);
    record.epoch.0 = epoch;
    let compare = vec![Compare { key: Key::Group(GroupId(n)), version: Revision(at) }];
    Txn { compare, put: vec![Record::Group(record)], delete: vec![] }
}

fn filled(path: &Path) -> StoreState {
    let mut store = EmbeddedStore::open(path, None).unwrap();
    store.commit(&cluster(5)).unwrap();
    for n in 0..300 {
        store.commit(&group(n, 1, 0)).unwrap();
    }
    store.state().clone()
}

#[test]
fn what_was_committed_is_there_after_a_reopen() {
    let folder = Folder::new("reopen");
    let before = filled(&folder.file());
    let mut store = EmbeddedStore::open(&folder.file(), Some([5; 16])).unwrap();
    assert_eq!(store.state(), &before);
    assert_eq!(store.state().revision(), Revision(301));
    store.commit(&group(7, 2, before.version(Key::Group(GroupId(7))).0)).unwrap();
    drop(store);
    let store = EmbeddedStore::open(&folder.file(), None).unwrap();
    assert_eq!(store.state().group(GroupId(7)).unwrap().epoch.0, 2);
    assert_eq!(store.state().revision(), Revision(302));
}

#[test]
fn a_copy_taken_in_mid_flight_opens_at_a_whole_transaction() {
    // What a crash leaves: the file as it is while the store is open, not closed in good order.
    let folder = Folder::new("crash");
    let mut store = EmbeddedStore::open(&folder.file(), None).unwrap();
    store.commit(&cluster(5)).unwrap();
    let copy = folder.0.join("copy.redb");
    for n in 0..40 {
        store.commit_all(&[group(2 * n, 1, 0), group(2 * n + 1, 1, 0)]).into_iter().for_each(|o| drop(o.unwrap()));
        fs::copy(folder.file(), &copy).unwrap();
        let crashed = EmbeddedStore::open(&copy, None).unwrap();
        assert_eq!(crashed.state(), store.state(), "after {n}");
    }
}

#[test]
fn a_conflict_writes_nothing_and_its_neighbours_are_written() {
    let folder = Folder::new("conflict");
    let mut store = EmbeddedStore::open(&folder.file(), None).unwrap();
    store.commit(&group(1, 1, 0)).unwrap();
    let outcomes = store.commit_all(&[group(1, 2, 1), group(1, 3, 1), group(2, 1, 0), group(1, 3, 2)]);
    let revisions: Vec<_> = outcomes.iter().map(|o| o.as_ref().ok().map(|changes| changes.revision.0)).collect();
    assert_eq!(revisions, [Some(2), None, Some(3), Some(4)]);
    assert!(matches!(&outcomes[1], Err(CommitError::Conflict(c)) if c.found == Revision(2)));
    let after = store.state().clone();
    assert!(store.commit(&group(2, 9, 0)).is_err());
    assert_eq!(store.state(), &after);
    drop(store);
    assert_eq!(EmbeddedStore::open(&folder.file(), None).unwrap().state(), &after);
}

#[test]
fn the_file_does_not_grow_with_revisions() {
    let folder = Folder::new("growth");
    let mut store = EmbeddedStore::open(&folder.file(), None).unwrap();
    let mut size_early = 0;
    for revision in 0..1500 {
        store.commit(&group(1, revision + 1, revision)).unwrap();
        if revision == 100 {
            size_early = fs::metadata(folder.file()).unwrap().len();
        }
    }
    assert_eq!(store.state().revision(), Revision(1500));
    let size = fs::metadata(folder.file()).unwrap().len();
    assert!(size <= size_early * 2, "{size_early} bytes, then {size}");
}

#[test]
fn other_clusters_other_files_and_open_stores_are_refused() {
    let folder = Folder::new("foreign");
    filled(&folder.file());
    let error = EmbeddedStore::open(&folder.file(), Some([6; 16])).unwrap_err();
    assert!(matches!(error, StoreError::OtherCluster { .. }) && error.to_string().contains("06060606"), "{error}");
    let first = EmbeddedStore::open(&folder.file(), None).unwrap();
    let error = EmbeddedStore::open(&folder.file(), None).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(first);
    let text = folder.0.join("text");
    let words = "[cell]\nname = \"a\"\n".repeat(500);
    fs::write(&text, &words).unwrap();
    let error = EmbeddedStore::open(&text, None).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(fs::read_to_string(&text).unwrap(), words, "left as it is");
    let error = EmbeddedStore::open(&folder.0.join("none/such"), None).unwrap_err();
    assert!(error.to_string().contains("does the directory exist?"), "{error}");
}

#[test]
fn a_file_with_any_block_damaged_is_refused_or_unharmed() {
    let folder = Folder::new("damage");
    let before = filled(&folder.file());
    let whole = fs::read(folder.file()).unwrap();
    let damaged = folder.0.join("damaged.redb");
    let (mut refused, mut unharmed) = (0, 0);
    for start in (0..whole.len()).step_by(4096) {
        let mut bytes = whole.clone();
        bytes[start..(start + 4096).min(whole.len())].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(&damaged, &bytes).unwrap();
        match EmbeddedStore::open(&damaged, None) {
            Ok(store) => {
                assert_eq!(store.state(), &before, "damage at {start} was believed");
                unharmed += 1;
            }
            Err(StoreError::Corrupt { .. } | StoreError::Database { .. }) => refused += 1,
            Err(other) => panic!("damage at {start}: {other}"),
        }
    }
    println!("{refused} damaged files refused, {unharmed} had their damage in unused blocks");
    assert!(refused >= 5);
}

#[test]
fn a_file_without_a_name_is_a_store_too() {
    let folder = Folder::new("nameless");
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(&folder.0);
    let Ok(file) = file else {
        println!("SKIPPED: this file system has no O_TMPFILE");
        return;
    };
    let mut reader: File = file.try_clone().unwrap();
    let mut store = EmbeddedStore::from_file(file, "nameless".into(), None).unwrap();
    store.commit(&cluster(5)).unwrap();
    drop(store);
    // Still one file, still there for the next store.
    let mut magic = [0; 4];
    reader.seek(SeekFrom::Start(0)).unwrap();
    reader.read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"redb");
    reader.flush().unwrap();
    let store = EmbeddedStore::from_file(reader, "nameless".into(), Some([5; 16])).unwrap();
    assert_eq!(store.state().revision(), Revision(1));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
}
