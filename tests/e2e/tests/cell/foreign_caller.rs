//! Callers of the replication port that do not belong to the cell.

use escape_fabric::netns::NetNs;
use escape_link::{ClusterAuthority, Link, LinkLimits};
use escape_proto::{Hello, Incarnation, NodeId, PROTOCOL_VERSION, Role};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a caller tries.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may take to be made, and bytes to be taken.
const SOCKET_MAX: Duration = Duration::from_secs(2);

/// Calls as a node of another cell, with keys and certificates of that cell; returns why it got no link.
pub fn call_from_another_cell(from: &NetNs, node: SocketAddr, called: NodeId) -> String {
    from.enter(|| refusal_of(&mut foreign_link(node, called))).unwrap()
}

/// Connects and says these bytes; returns how many came back before the other side closed, `None` if it did not close.
pub fn say(from: &NetNs, node: SocketAddr, bytes: &[u8]) -> Option<usize> {
    let mut stream = from.enter(|| TcpStream::connect_timeout(&node, SOCKET_MAX)).unwrap().unwrap();
    stream.set_read_timeout(Some(SOCKET_MAX)).unwrap();
    stream.set_write_timeout(Some(SOCKET_MAX)).unwrap();
    // It may close before all of it is said.
    let _ = stream.write_all(bytes);
    let (mut came, mut part) = (0, [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Some(came),
            Ok(n) => came += n,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => return None,
            Err(_) => return Some(came),
        }
    }
}

/// Connects and says nothing.
pub fn stay_silent(from: &NetNs, node: SocketAddr) -> TcpStream {
    from.enter(|| TcpStream::connect_timeout(&node, SOCKET_MAX)).unwrap().unwrap()
}

/// The first bytes of a handshake, recorded from a caller of another cell: to be said again by somebody else.
pub fn recorded_handshake() -> Vec<u8> {
    let recorder = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut caller = foreign_link(recorder.local_addr().unwrap(), NodeId(0));
    let (mut stream, _) = recorder.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let begun = Instant::now();
    while bytes.len() < 100 && begun.elapsed() < PATIENCE {
        let _ = caller.on_ready(true, true);
        if let Ok(n) = stream.read(&mut part) {
            bytes.extend(&part[..n]);
        }
    }
    assert!(bytes.len() >= 100, "a handshake begins with more than {} bytes", bytes.len());
    bytes
}

fn foreign_link(at: SocketAddr, called: NodeId) -> Link {
    let secrets = ClusterAuthority::new("another-cell").unwrap().issue(Role::Node(NodeId(1))).unwrap();
    let hello = Hello {
        version: PROTOCOL_VERSION,
        cluster: [9; 16],
        from: Role::Node(NodeId(1)),
        inc: Incarnation(1),
        expect: Incarnation(0),
        channel: 0,
    };
    let identity = secrets.identity().unwrap();
    Link::connect(at, &identity, Role::Node(called), hello, LinkLimits::default(), Instant::now()).unwrap()
}

fn refusal_of(link: &mut Link) -> String {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Err(error) = link.on_ready(true, true) {
            return error.to_string();
        }
        assert!(!link.is_open(), "a node of another cell got a link");
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("a node of another cell was neither refused nor let in");
}
