//! How long a failover's transaction takes to be durable: `cargo run --release -p escape-store --example commit_cost
//! [DIRECTORY]`. Compares with one `fdatasync` of a written page of a file of the same size.
#![allow(clippy::unwrap_used)]

use escape_engine::store::{Record, Txn};
use escape_proto::{BucketTable, GroupId, GroupRecord, Incarnation, Member, NodeId};
use escape_store::EmbeddedStore;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 200;

fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("escape-commit-cost-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    print("one page, fdatasync", plain(&folder));
    print("16 groups and the buckets, redb", transactions(&folder, true));
    print("16 groups, redb", transactions(&folder, false));
    std::fs::remove_dir_all(&folder).unwrap();
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let us = |q: usize| times[times.len() * q / 100].as_micros();
    println!("{what:34} p50 {:6} µs   p90 {:6} µs", us(50), us(90));
}

fn plain(folder: &Path) -> Vec<Duration> {
    let file = File::create(folder.join("plain")).unwrap();
    file.write_all_at(&[0; 1 << 20], 0).unwrap();
    file.sync_all().unwrap();
    (0..ROUNDS)
        .map(|round| {
            std::thread::sleep(Duration::from_millis(5));
            let start = Instant::now();
            file.write_all_at(&[round as u8; 4096], round * 4096).unwrap();
            file.sync_data().unwrap();
            start.elapsed()
        })
        .collect()
}

fn transactions(folder: &Path, buckets: bool) -> Vec<Duration> {
    let mut store = EmbeddedStore::open(&folder.join(format!("store-{buckets}")), None).unwrap();
    let owner = Member { node: NodeId(1), inc: Incarnation(1) };
    (1..=ROUNDS)
        .map(|round| {
            let groups: Vec<_> = (0..16).map(GroupId).collect();
            let mut put: Vec<_> = groups
                .iter()
                .map(|group| {
                    let mut record = GroupRecord::fresh(*group, owner);
                    record.epoch.0 = round;
                    Record::Group(record)
                })
                .collect();
            if buckets {
                put.push(Record::Buckets(BucketTable::spread(round, &groups)));
            }
            std::thread::sleep(Duration::from_millis(5));
            let start = Instant::now();
            store.commit(&Txn { compare: Vec::new(), put, delete: Vec::new() }).unwrap();
            start.elapsed()
        })
        .collect()
}
