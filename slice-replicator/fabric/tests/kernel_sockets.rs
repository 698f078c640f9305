//! The fabric between plain kernel sockets: a client and two nodes with one MAC and one IP, joined by veth pairs.
#![allow(clippy::unwrap_used)]

mod bed;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bed::{CLIENT, CLIENT_MAC, PORT, SERVICE, SERVICE_MAC, can_run};
use escape_fabric::arp::ArpResponder;
use escape_fabric::fabric::{BUCKETS, Fabric, FabricConfig, GroupPlace, Port};
use escape_fabric::links::{LinkSpec, Links};
use escape_fabric::netns::NetNs;

const LIMIT: Duration = Duration::from_secs(5);

/// A namespace with one end of a veth pair that has an address; returns it with the pair's index at the edge.
fn machine(edge: &NetNs, edge_name: &str, mac: [u8; 6], address: Ipv4Addr) -> (NetNs, u32) {
    let namespace = NetNs::create().unwrap();
    let far = LinkSpec { name: "eth0", mac: Some(mac), mtu: None };
    let mut links = Links::open_in(edge).unwrap();
    let index = links.create_veth(&LinkSpec::named(edge_name), &far, namespace.as_fd()).unwrap();
    links.silence(index).unwrap();
    let mut inside = Links::open_in(&namespace).unwrap();
    let eth0 = inside.index_of("eth0").unwrap();
    inside.add_address(eth0, address, 24).unwrap();
    inside.silence_ipv6(eth0).unwrap();
    inside.set_up(eth0).unwrap();
    links.set_up(index).unwrap();
    (namespace, index)
}

/// A node: it knows where the client is, because ARP of nodes does not leave the edge.
fn node(edge: &NetNs, number: u16) -> (NetNs, Port) {
    let (namespace, data) = machine(edge, &format!("d{number}"), SERVICE_MAC, SERVICE);
    let mut inside = Links::open_in(&namespace).unwrap();
    let eth0 = inside.index_of("eth0").unwrap();
    inside.set_neighbour(eth0, CLIENT, CLIENT_MAC).unwrap();
    let mut links = Links::open_in(edge).unwrap();
    let (near, far) = (format!("m{number}"), LinkSpec::named("mirror"));
    let mirror = links.create_veth(&LinkSpec::named(&near), &far, namespace.as_fd()).unwrap();
    let far = inside.index_of("mirror").unwrap();
    inside.silence(far).unwrap();
    inside.set_up(far).unwrap();
    links.set_up(mirror).unwrap();
    (namespace, Port { node: number, data, mirror })
}

/// Repeats what it reads behind its own name, until told to stop.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(namespace: &NetNs, name: u8) -> Self {
        let listener = namespace.enter(|| TcpListener::bind((SERVICE, PORT)).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut connections: Vec<TcpStream> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                connections.extend(listener.accept().map(|(stream, _)| stream).ok());
                for stream in &mut connections {
                    stream.set_nonblocking(true).unwrap();
                    let mut byte = [0];
                    if matches!(stream.read(&mut byte), Ok(1)) {
                        stream.write_all(&[name, byte[0]]).unwrap();
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

fn ask(stream: &mut TcpStream, byte: u8) -> [u8; 2] {
    stream.write_all(&[byte]).unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn connect(client: &NetNs) -> TcpStream {
    let stream = client.enter(|| TcpStream::connect_timeout(&SocketAddr::from((SERVICE, PORT)), LIMIT)).unwrap();
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[test]
fn connections_go_to_their_owner_and_answers_come_back() {
    if !can_run() {
        return;
    }
    let edge = NetNs::create().unwrap();
    let (client, uplink) = machine(&edge, "up", CLIENT_MAC, CLIENT);
    let nodes: Vec<_> = (0..2).map(|number| node(&edge, number)).collect();
    let config = FabricConfig {
        ports: nodes.iter().map(|(_, port)| *port).collect(),
        hash_seed: 7,
        ..FabricConfig::new("up", SERVICE, SERVICE_MAC, &[PORT])
    };
    let mut fabric = Fabric::install(&edge, config).unwrap();
    let buckets: Vec<_> = (0..BUCKETS).map(|bucket| (bucket, u32::from(bucket % 2))).collect();
    fabric.set_buckets(&buckets).unwrap();
    let place = |group, owner, mirror| GroupPlace { group, owner: Some(owner), mirror: Some(mirror) };
    fabric.apply(&[place(0, 0, 1), place(1, 1, 0)]).unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let mut responder = ArpResponder::start(&edge, uplink, SERVICE, SERVICE_MAC).unwrap();
    let stopped = Arc::clone(&stop);
    let arp = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            responder.on_readable().unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        responder.counters()
    });
    let _servers = [Server::start(&nodes[0].0, b'0'), Server::start(&nodes[1].0, b'1')];

    let mut streams: Vec<_> = (0..20).map(|_| connect(&client)).collect();
    let known: std::collections::BTreeMap<_, _> =
        fabric.flows().unwrap().into_iter().map(|(flow, group)| (flow.client.port(), group)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        let group = known[&stream.local_addr().unwrap().port()];
        assert_eq!(ask(stream, number as u8), [b'0' + group as u8, number as u8]);
    }
    assert_eq!(known.values().collect::<std::collections::BTreeSet<_>>().len(), 2, "both groups got flows");

    // New flows follow the flip; what the other node says about the old ones (RST) stays at its port.
    fabric.apply(&[place(0, 1, 0)]).unwrap();
    for (number, mut stream) in (0..10).map(|number| (number, connect(&client))) {
        assert_eq!(ask(&mut stream, number), [b'1', number]);
    }
    let counters = fabric.counters().unwrap();
    assert_eq!((counters.placed, counters.flows_full, counters.unknown_flow), (30, 0, 0));
    assert_eq!(counters.mirrored, counters.steered);
    stop.store(true, Ordering::Relaxed);
    assert!(arp.join().unwrap().answered >= 1, "the client asked where the service is");
}

#[test]
fn the_wrong_nodes_answers_are_dropped_at_its_port() {
    if !can_run() {
        return;
    }
    let edge = NetNs::create().unwrap();
    let (client, _) = machine(&edge, "up", CLIENT_MAC, CLIENT);
    let nodes: Vec<_> = (0..2).map(|number| node(&edge, number)).collect();
    let config = FabricConfig {
        ports: nodes.iter().map(|(_, port)| *port).collect(),
        ..FabricConfig::new("up", SERVICE, SERVICE_MAC, &[PORT])
    };
    let mut fabric = Fabric::install(&edge, config).unwrap();
    fabric.set_buckets(&(0..BUCKETS).map(|bucket| (bucket, 0)).collect::<Vec<_>>()).unwrap();
    fabric.apply(&[GroupPlace { group: 0, owner: Some(0), mirror: None }]).unwrap();
    let mut inside = Links::open_in(&client).unwrap();
    let eth0 = inside.index_of("eth0").unwrap();
    inside.set_neighbour(eth0, SERVICE, SERVICE_MAC).unwrap();
    let _server = Server::start(&nodes[0].0, b'0');
    let mut stream = connect(&client);
    assert_eq!(ask(&mut stream, 1), [b'0', 1]);

    // Node 1 tries to open connections to the client from the service's address and port.
    let before = fabric.drops_of(1).unwrap();
    let thief = nodes[1].0.enter(|| {
        let listener = TcpListener::bind((SERVICE, PORT)).unwrap();
        let _ = TcpStream::connect_timeout(&SocketAddr::from((CLIENT, 5_000)), Duration::from_millis(200));
        listener
    });
    let deadline = Instant::now() + LIMIT;
    while fabric.drops_of(1).unwrap() == before {
        assert!(Instant::now() < deadline, "nothing was dropped at node 1's port");
        thread::sleep(Duration::from_millis(5));
    }
    drop(thief);
    // The connection never noticed.
    assert_eq!(ask(&mut stream, 2), [b'0', 2]);
    assert_eq!(fabric.drops_of(0).unwrap(), 0);
}
