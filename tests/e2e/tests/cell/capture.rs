//! `tcpdump` where the clients live, while a node is stopped and wakes up again: what it saw proves that equal sequence numbers
//! always carried equal bytes, and that nothing of the old owner came after the flip.

use super::cells_run_here;
use super::foreign_program::{ForeignProgram, is_here};
use super::session::Session;
use super::tidy::Directory;
use super::victim::busiest_node;
use escape::cell::{CellPlan, LocalCell, SERVICE_IP};
use escape::drill::{Cell, Fault};
use escape_e2e::capture::{Judge, Pcap};
use escape_fabric::netns::NetNs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Sessions that ask one after the other, in so many threads.
const THREADS: usize = 4;
const SESSIONS_PER_THREAD: usize = 4;
const SETTLE_MAX: Duration = Duration::from_secs(20);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Load before the fault, and after the old owner has woken up.
const LOAD: Duration = Duration::from_millis(700);
/// Until then the others have taken over.
const STOPPED: Duration = Duration::from_secs(2);
/// Time for the last frames to come to the file: tcpdump drops what it has not read when it is interrupted.
const DRAIN: Duration = Duration::from_millis(500);
/// Pause of a session's thread between two requests.
const PAUSE: Duration = Duration::from_millis(2);

/// A capture over a stop and its end, judged offline.
pub fn nothing_of_the_old_owner() {
    if !cells_run_here("the capture") || !is_here("tcpdump", "what the clients' interface saw") {
        return;
    }
    let directory = Directory::new("capture");
    let file = directory.file("clients.pcap");
    let mut cell = LocalCell::start(CellPlan::new(40)).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let mut tcpdump = start_tcpdump(&cell, &file);
    let (requests, node, slices) = stop_and_continue(&mut cell);
    thread::sleep(DRAIN);
    tcpdump.signal(libc::SIGINT);
    tcpdump.wait_for_end(WAIT_MAX);
    let complaints = tcpdump.complaints();
    let zombies = cell.zombie_frames();
    cell.shutdown();
    assert!(complaints.contains("\n0 packets dropped by kernel"), "the capture is whole: {complaints}");
    let bytes = std::fs::read(&file).unwrap();
    let seen = Judge::new(SERVICE_IP).judge(Pcap::new(&bytes).unwrap_or_else(|| panic!("{complaints}")));
    println!("node {node} with {slices} slices stopped and continued, {requests} requests: {seen:?}");
    assert_eq!(seen.contradictions, [], "the service contradicts itself");
    assert_eq!((zombies, seen.resets, seen.cut_short), (0, 0, 0), "frames of the old owner, resets, frames cut short");
    assert!(slices > 0 && seen.repeated > 0, "something was sent again and could be compared");
    assert!(seen.flows >= THREADS * SESSIONS_PER_THREAD && seen.segments >= requests, "{requests} requests: {seen:?}");
}

/// Starts it, and waits until it listens.
fn start_tcpdump(cell: &LocalCell, file: &Path) -> ForeignProgram {
    let file = file.display().to_string();
    // -Z root: it would not keep the right to write the file otherwise. -U: each frame is in the file at once.
    // --immediate-mode: none waits in the kernel for others.
    let arguments =
        ["-i", "c0", "-n", "-U", "--immediate-mode", "-s", "0", "-B", "16384", "-Z", "root", "-w", &file, "tcp"];
    let mut tcpdump = ForeignProgram::start(cell, "tcpdump", &arguments);
    tcpdump.wait_for("listening", WAIT_MAX, |t| t.complaints().contains("listening on").then_some(()));
    tcpdump
}

/// Requests go on while the node that has most of the sessions is stopped and continued; how many there were.
fn stop_and_continue(cell: &mut LocalCell) -> (u64, u16, u64) {
    let clients = cell.network().clients.try_clone().unwrap();
    let service = cell.service_addresses().http;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| count_until(&over, &clients, service))).collect();
        let ending = Ending(&over);
        thread::sleep(LOAD);
        let (node, slices) = busiest_node(cell);
        cell.inject(node, Fault::Stop).unwrap();
        thread::sleep(STOPPED);
        cell.wait_reprotected(SETTLE_MAX).unwrap();
        // SIGCONT: the old owner wakes up and believes that it still owns.
        cell.heal(node, Fault::Stop).unwrap();
        thread::sleep(LOAD);
        cell.wait_ready(SETTLE_MAX).unwrap();
        drop(ending);
        (load.into_iter().map(|thread| thread.join().unwrap()).sum(), node, slices)
    })
}

/// Says that it is over when it is dropped, whatever fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn count_until(over: &AtomicBool, clients: &NetNs, service: SocketAddr) -> u64 {
    let mut sessions: Vec<Session> = (0..SESSIONS_PER_THREAD).map(|_| Session::open(clients, service)).collect();
    let mut requests = 0;
    while !over.load(Ordering::Relaxed) {
        sessions.iter_mut().for_each(Session::count);
        requests += SESSIONS_PER_THREAD as u64;
        thread::sleep(PAUSE);
    }
    requests
}
