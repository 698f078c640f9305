//! Slices per client address: each client has several connections and one session, and all of it survives.

use super::cells_run_here;
use super::patience::patient;
use super::session::{COUNT, REPLY_MAX, reply};
use super::victim::busiest_node;
use escape::cell::{CellPlan, LocalCell};
use escape::config::SlicePer;
use escape::drill::{Cell, Fault};
use escape_fabric::netns::NetNs;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: u8 = 40;
const CONNECTIONS: usize = 4;
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// Requests of all clients that are seen between two faults.
const REQUESTS: u64 = 4_000;
/// How long these may take.
const REQUESTS_MAX: Duration = Duration::from_secs(60);
/// One turn in so many gives up a connection and opens another.
const CHANGE_EVERY: u64 = 20;
/// What happens, one after the other, each to the node with the most slices.
const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Guest, Fault::Link, Fault::Kill];

/// All connections of a client count in one session, through deaths of nodes and of a guest; no count is lost or doubled.
pub fn fail_over_together() {
    if !cells_run_here("slices per client") {
        return;
    }
    let sessions = u32::from(CLIENTS) * CONNECTIONS as u32;
    let plan = CellPlan {
        slice_per: SlicePer::Client,
        client_addresses: CLIENTS,
        timings: patient(),
        ..CellPlan::new(sessions)
    };
    let mut cell = LocalCell::start(plan).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let (addresses, service) = (cell.client_addresses(), cell.service_addresses().http);
    assert_eq!(addresses.len(), usize::from(CLIENTS));
    let clients: Vec<Client> = addresses
        .iter()
        .map(|address| Client::open(cell.network().clients.try_clone().unwrap(), *address, service))
        .collect();
    let slices: u64 = (0..3).map(|node| cell.status(node).unwrap().slices).sum();
    assert_eq!(slices, u64::from(CLIENTS), "one slice for each client");

    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let clients: Vec<Client> = std::thread::scope(|scope| {
        // Ends the clients also when the faults fail.
        let _stop = StopAtEnd(&stop);
        let work = |client| scope.spawn(|| Client::work(client, &stop, &done));
        let workers: Vec<_> = clients.into_iter().map(work).collect();
        wait_for_requests(&done);
        for fault in FAULTS {
            let (node, slices) = busiest_node(&mut cell);
            cell.inject(node, fault).unwrap();
            wait_for_requests(&done);
            cell.wait_reprotected(SETTLE_MAX).unwrap();
            cell.heal(node, fault).unwrap();
            cell.wait_ready(SETTLE_MAX).unwrap();
            println!("{fault} of node {node} with {slices} slices");
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let longest = clients.iter().map(|client| client.longest).max().unwrap_or_default();
    let changes: u64 = clients.iter().map(|client| client.changes).sum();
    let slices: u64 = (0..3).map(|node| cell.status(node).unwrap().slices).sum();
    assert_eq!(slices, u64::from(CLIENTS), "still one slice for each client");
    drop(clients);
    let end = Instant::now() + SETTLE_MAX;
    while (0..3).any(|node| cell.status(node).unwrap().slices > 0) {
        assert!(Instant::now() < end, "slices outlive their last connection");
        std::thread::sleep(Duration::from_millis(50));
    }
    cell.shutdown();
    let requests = done.load(Ordering::Relaxed);
    println!("{requests} requests, {changes} connections given up for others, longest wait {longest:?}");
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn wait_for_requests(done: &AtomicU64) {
    let (wanted, end) = (done.load(Ordering::Relaxed) + REQUESTS, Instant::now() + REQUESTS_MAX);
    while done.load(Ordering::Relaxed) < wanted {
        assert!(Instant::now() < end, "the clients do not get on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A client: an address, its connections, and what its session must have counted.
struct Client {
    network: NetNs,
    address: Ipv4Addr,
    service: SocketAddr,
    connections: Vec<TcpStream>,
    count: u64,
    turns: u64,
    changes: u64,
    longest: Duration,
}

impl Client {
    fn open(network: NetNs, address: Ipv4Addr, service: SocketAddr) -> Self {
        let connections = Vec::new();
        let mut client =
            Self { network, address, service, connections, count: 0, turns: 0, changes: 0, longest: Duration::ZERO };
        for _ in 0..CONNECTIONS {
            let connection = client.connect();
            client.connections.push(connection);
        }
        client
    }

    fn connect(&self) -> TcpStream {
        let connect = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::from((self.address, 0)).into())?;
            socket.connect_timeout(&self.service.into(), REPLY_MAX)?;
            socket.set_read_timeout(Some(REPLY_MAX))?;
            socket.set_tcp_nodelay(true)?;
            Ok::<_, std::io::Error>(TcpStream::from(socket))
        };
        self.network.enter(connect).unwrap().unwrap()
    }

    fn work(mut self, stop: &AtomicBool, done: &AtomicU64) -> Self {
        while !stop.load(Ordering::Relaxed) {
            self.turns += 1;
            let here = usize::try_from(self.turns).unwrap() % CONNECTIONS;
            let begun = Instant::now();
            self.count_on_two(here, (here + 1) % CONNECTIONS);
            self.longest = self.longest.max(begun.elapsed());
            done.fetch_add(2, Ordering::Relaxed);
            if self.turns.is_multiple_of(CHANGE_EVERY) {
                self.change(here);
            }
        }
        self
    }

    /// Requests on two connections at the same time: whichever comes first, both are counted, and nothing else.
    fn count_on_two(&mut self, one: usize, other: usize) {
        for at in [one, other] {
            self.connections[at].write_all(COUNT).unwrap();
        }
        let mut counts = [one, other].map(|at| {
            let reply = reply(&mut self.connections[at]);
            assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
            reply.lines().last().unwrap().parse::<u64>().unwrap_or_else(|e| panic!("{e}: {reply}"))
        });
        counts.sort_unstable();
        assert_eq!(counts, [self.count + 1, self.count + 2], "client {}", self.address);
        self.count += 2;
    }

    /// One connection ends, another one takes its place; the session goes on.
    fn change(&mut self, at: usize) {
        self.connections[at].shutdown(Shutdown::Write).unwrap();
        let ended = std::io::Read::read(&mut self.connections[at], &mut [0; 16]).unwrap();
        assert_eq!(ended, 0, "nothing was asked");
        self.connections[at] = self.connect();
        self.changes += 1;
    }
}
