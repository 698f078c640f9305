//! Garbage, replayed and foreign bytes at the ports between nodes: refused, counted, and no session notices.

use super::cells_run_here;
use super::foreign_caller::{call_from_another_cell, recorded_handshake, say, stay_silent};
use super::session::Session;
use escape::cell::{CellPlan, LocalCell, node_ip};
use escape::drill::Cell;
use escape_fabric::netns::NetNs;
use escape_proto::NodeId;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SESSIONS: u32 = 12;
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// Ports of `escape::cell`'s processes.
const LINK_PORT: u16 = 7400;
const BEAT_PORT: u16 = 7401;
/// Whose ports are attacked.
const NODE: u16 = 0;
/// Callers that stay silent: as many as one address may have, and more.
const SILENT: usize = 48;
const FORGED_BEATS: usize = 200;

/// All of it while sessions run.
pub fn hostile_bytes() {
    if !cells_run_here("the replication port") {
        return;
    }
    let mut cell = LocalCell::start(CellPlan::new(SESSIONS)).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let clients = cell.network().clients.try_clone().unwrap();
    let attackers = cell.network().orchestrator.try_clone().unwrap();
    let service = cell.service_addresses().http;
    let before = Counters::of(&mut cell);
    let over = AtomicBool::new(false);
    // Before the attack: a SYN that is lost comes again after a second, longer than the attack lasts.
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::open(&clients, service)).collect();
    let (requests, longest) = thread::scope(|scope| {
        let load = scope.spawn(|| count_until(&over, &mut sessions));
        attack(&attackers);
        over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    let after = Counters::of(&mut cell);
    println!("{SESSIONS} sessions, {requests} requests, longest {longest:?}\n  {before:?}\n  {after:?}");
    assert_eq!(after.opened, before.opened, "a stranger got a link");
    assert!(after.refused_stream >= before.refused_stream + 8, "{after:?}");
    assert!(after.over_address + after.timed_out + after.crowded > 0, "silent callers are bounded: {after:?}");
    assert_eq!(after.heartbeats_forged, before.heartbeats_forged + FORGED_BEATS as u64);
    assert!(requests >= 10 * u64::from(SESSIONS), "the load stood still");
    let groups: u64 = (0..3).map(|node| cell.status(node).unwrap().groups).sum();
    assert_eq!((groups, cell.zombie_frames()), (48, 0), "no group changed its owner");
    for node in 0..3 {
        let status = cell.status(node).unwrap();
        assert!(status.is_settled() && status.groups == 16, "node {node}: {status:?}");
    }
    cell.shutdown();
}

/// Everything that a stranger can send to a node.
fn attack(from: &NetNs) {
    let node = SocketAddr::from((node_ip(NODE), LINK_PORT));
    let cause = call_from_another_cell(from, node, NodeId(NODE));
    assert!(cause.contains("certificate"), "{cause}");
    println!("a node of another cell: {cause}");

    let random: Vec<u8> = (0..65_536u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let handshake = recorded_handshake();
    let mut cut = handshake.clone();
    cut.truncate(handshake.len() / 2);
    let mut damaged = handshake.clone();
    if let Some(byte) = damaged.get_mut(60) {
        *byte ^= 0xff;
    }
    damaged.extend(&random[..4096]);
    let replayed_twice = [&handshake[..], &handshake].concat();
    let too_long = [&[22, 3, 3, 0xff, 0xff][..], &random].concat();
    for (what, bytes) in [
        ("random bytes", &random[..]),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"),
        ("zeros", &[0; 10_000]),
        ("a recorded handshake, and garbage", &[&handshake[..], &random].concat()),
        ("a recorded handshake, twice", &replayed_twice),
        ("a damaged handshake", &damaged),
        ("a record of impossible length", &too_long),
    ] {
        let came = say(from, node, bytes);
        assert!(came.is_some(), "{what}: the node keeps the connection");
        println!("{what}: refused after {} bytes of answer", came.unwrap_or_default());
    }
    // Half a handshake may still become a whole one: it ends by time.
    let waiting: Vec<_> = (0..SILENT).map(|_| stay_silent(from, node)).collect();
    let _ = say(from, node, &cut);
    forge_heartbeats(from, &random);
    thread::sleep(Duration::from_millis(500));
    drop(waiting);
}

/// Datagrams to the heartbeat port, some of the right length.
fn forge_heartbeats(from: &NetNs, random: &[u8]) {
    let socket = from.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for n in 0..FORGED_BEATS {
        let len = 1 + n % 120;
        socket.send_to(&random[n..n + len], (node_ip(NODE), BEAT_PORT)).unwrap();
        thread::sleep(Duration::from_micros(500));
    }
}

/// Sessions count until it is over; returns how many requests there were and the longest wait for a reply.
fn count_until(over: &AtomicBool, sessions: &mut [Session]) -> (u64, Duration) {
    let mut requests = 0;
    let begun = Instant::now();
    while !over.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(60) {
        for session in sessions.iter_mut() {
            session.count();
            requests += 1;
        }
        thread::sleep(Duration::from_millis(5));
    }
    (requests, sessions.iter().map(|session| session.longest).max().unwrap_or_default())
}

/// What the attacked node counts.
#[derive(Clone, Copy, Debug)]
struct Counters {
    opened: u64,
    refused_stream: u64,
    timed_out: u64,
    over_address: u64,
    crowded: u64,
    heartbeats_forged: u64,
}

impl Counters {
    fn of(cell: &mut LocalCell) -> Self {
        let told = cell.ask(NODE, "counters").unwrap();
        let metrics = &told["metrics"];
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("no such figure in {told}"));
        let count = |name: &str| number(&metrics["escape_link_handshakes_total"][name]);
        Self {
            opened: count("opened"),
            refused_stream: count("refused_stream"),
            timed_out: count("timed_out"),
            over_address: count("over_address"),
            crowded: count("crowded"),
            heartbeats_forged: number(&metrics["escape_heartbeats_refused_total"]["forged"]),
        }
    }
}
