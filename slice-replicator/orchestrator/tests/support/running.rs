//! An orchestrator on a thread of the test.

use super::Folder;
use escape_link::ClusterAuthority;
use escape_orchestrator::{DetectionTiming, OrchestratorProcess, OrchestratorProcessConfig, OutputPlace};
use escape_proto::Role;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

pub struct RunningOrchestrator {
    pub links: SocketAddr,
    pub beats: SocketAddr,
    pub metrics: Option<SocketAddr>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Value>>,
}

pub fn config(authority: &ClusterAuthority, folder: &Folder, timing: DetectionTiming) -> OrchestratorProcessConfig {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    OrchestratorProcessConfig {
        listen: any,
        beat_listen: any,
        store: OutputPlace::Path(folder.file("store.redb")),
        groups_per_node: 4,
        claim_ms: 10_000,
        slice_crashes_per_minute: 2,
        n_slots: 4096,
        leases_per_join_max: 4,
        timing,
        real_time: true,
        events: Some(OutputPlace::Path(folder.file("events.jsonl"))),
        metrics: None,
        broken: None,
        secrets: authority.issue(Role::Orchestrator).unwrap(),
    }
}

impl RunningOrchestrator {
    pub fn start(config: OrchestratorProcessConfig) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (addresses, told) = channel();
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut process = OrchestratorProcess::start(config).unwrap();
            addresses.send((process.link_addr(), process.beat_addr().unwrap(), process.metrics_addr())).unwrap();
            while process.turn().unwrap() && !asked.load(Ordering::Relaxed) {}
            process.status()
        });
        let (links, beats, metrics) = told.recv().unwrap();
        Self { links, beats, metrics, stop, thread: Some(thread) }
    }

    /// Ends it; its last status.
    pub fn stop(mut self) -> Value {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for RunningOrchestrator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The events written so far.
pub fn events(folder: &Folder) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.file("events.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
