//! Round trips between two threads: a link against plain TCP, with the sizes of a checkpoint and an acknowledgement.
//!
//! `cargo run --release -p escape-link --example ping [ROUNDS]`
#![allow(clippy::unwrap_used)]

use escape_link::pki::ClusterAuthority;
use escape_link::{Identity, Link, LinkLimits, Listener, ListenerLimits, RoleSet};
use escape_proto::{Hello, Incarnation, NodeId, PROTOCOL_VERSION, Role};
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const REQUEST: usize = 1024;
const REPLY: usize = 40;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(20_000);
    println!("{rounds} round trips of {REQUEST} B there and {REPLY} B back, two threads, loopback");
    print("plain TCP, blocking", &plain(rounds));
    print("link, waiting in epoll", &link(rounds, Duration::ZERO));
    print("link, polling 20 µs first", &link(rounds, Duration::from_micros(20)));
}

fn print(what: &str, histogram: &Histogram<u64>) {
    let us = |q| f64::from(u32::try_from(histogram.value_at_quantile(q)).unwrap_or(u32::MAX)) / 1000.0;
    println!("{what:28} p50 {:7.1} µs   p99 {:7.1} µs", us(0.5), us(0.99));
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(10_000_000_000, 3).unwrap()
}

fn plain(rounds: u32) -> Histogram<u64> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        let mut request = [0; REQUEST];
        while socket.read_exact(&mut request).is_ok() {
            socket.write_all(&request[..REPLY]).unwrap();
        }
    });
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut times = histogram();
    let mut reply = [0; REPLY];
    for _ in 0..rounds {
        let start = Instant::now();
        socket.write_all(&[7; REQUEST]).unwrap();
        socket.read_exact(&mut reply).unwrap();
        times.record(nanos(start)).unwrap();
    }
    drop(socket);
    answering.join().unwrap();
    times
}

fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap()
}

/// One link and its poll.
struct End {
    poll: Poll,
    events: Events,
    link: Link,
    spin: Duration,
}

impl End {
    fn new(mut link: Link, spin: Duration) -> Self {
        let poll = Poll::new().unwrap();
        link.register(poll.registry(), Token(0)).unwrap();
        Self { poll, events: Events::with_capacity(4), link, spin }
    }

    fn wait(&mut self) {
        self.poll.poll(&mut self.events, Some(Duration::from_secs(2))).unwrap();
        assert!(!self.events.is_empty(), "two seconds without an event");
        for event in &self.events {
            self.link.on_event(event).unwrap();
        }
    }

    /// Length of the next frame.
    fn receive(&mut self) -> Option<usize> {
        let start = Instant::now();
        loop {
            match self.link.recv() {
                Ok(Some(frame)) => return Some(frame.len()),
                Ok(None) if start.elapsed() < self.spin => self.link.on_ready(true, false).unwrap(),
                Ok(None) => self.wait(),
                Err(_) => return None,
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.link.send_parts(&[bytes]).unwrap();
        self.link.flush().unwrap();
    }
}

fn hello(from: Role) -> Hello {
    let nobody = Incarnation(0);
    Hello { version: PROTOCOL_VERSION, cluster: [0; 16], from, inc: nobody, expect: nobody, channel: 0 }
}

fn link(rounds: u32, spin: Duration) -> Histogram<u64> {
    let authority = ClusterAuthority::new("ping").unwrap();
    let identity = |role| authority.issue(role).unwrap().identity().unwrap();
    let (here, there) = (Role::Node(NodeId(1)), Role::Node(NodeId(2)));
    let (address, port) = std::sync::mpsc::channel();
    let answerer_identity = identity(there);
    let answering = thread::spawn(move || answer(&answerer_identity, hello(there), spin, &address));
    let addr = port.recv().unwrap();
    let link = Link::connect(addr, &identity(here), there, hello(here), LinkLimits::default(), Instant::now()).unwrap();
    let mut end = End::new(link, spin);
    while !end.link.is_open() {
        end.wait();
    }
    let mut times = histogram();
    for _ in 0..rounds {
        let start = Instant::now();
        end.send(&[7; REQUEST]);
        assert_eq!(end.receive(), Some(REPLY));
        times.record(nanos(start)).unwrap();
    }
    drop(end);
    answering.join().unwrap();
    times
}

fn answer(identity: &Identity, own: Hello, spin: Duration, address: &std::sync::mpsc::Sender<SocketAddr>) {
    let mut poll = Poll::new().unwrap();
    let now = Instant::now();
    let any = "127.0.0.1:0".parse().unwrap();
    let mut listener = Listener::bind(any, identity, own, RoleSet::NODES, ListenerLimits::default(), now).unwrap();
    listener.register(poll.registry(), Token(0)).unwrap();
    address.send(listener.local_addr()).unwrap();
    let mut events = Events::with_capacity(16);
    let link = loop {
        poll.poll(&mut events, Some(Duration::from_secs(2))).unwrap();
        for event in &events {
            listener.on_event(poll.registry(), event, Instant::now());
        }
        if let Some(link) = listener.next_link() {
            break link;
        }
        assert!(now.elapsed() < Duration::from_secs(5), "nobody called: {:?}", listener.counters());
    };
    let mut end = End::new(link, spin);
    while end.receive().is_some() {
        end.send(&[9; REPLY]);
    }
}
