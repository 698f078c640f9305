//! A process asked to stop stops, and its store is whole.
#![allow(clippy::unwrap_used)]

mod support;

use escape_link::ClusterAuthority;
use escape_orchestrator::{DetectionTiming, run_orchestrator};
use escape_store::EmbeddedStore;
use std::time::{Duration, Instant};
use support::Folder;
use support::running::{config, events};

#[test]
fn sigterm_ends_the_orchestrator_in_good_order() {
    let (authority, folder) = (ClusterAuthority::new("cell-a").unwrap(), Folder::new("stop"));
    let config = config(&authority, &folder, DetectionTiming::default());
    let running = std::thread::spawn(move || run_orchestrator(config));
    let start = Instant::now();
    // Its file appears before its signal handlers; its events file only after both.
    while !folder.file("events.jsonl").exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never started");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
    signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
    let start = Instant::now();
    running.join().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    let told: Vec<String> =
        events(&folder).iter().map(|e| e["event"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(told, ["started", "stopping"]);
    // The cluster's record was the first transaction.
    let store = EmbeddedStore::open(&folder.file("store.redb"), None).unwrap();
    let cluster = store.state().cluster().unwrap();
    assert_eq!(cluster.placement_seed, authority.placement_seed);
}
