//! Who gets a link, and what those who do not are told.
#![allow(clippy::unwrap_used)]

mod support;

use escape_link::pki::{ClusterAuthority, ClusterSecrets};
use escape_link::{HelloFault, LinkFault, LinkLimits, ListenerLimits, RoleSet};
use escape_proto::{Hello, HelloReply, Incarnation, Member, NodeId, Role, decode, encode};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use support::{Pair, all_roles, framed, hello, node, raw_client};

fn authority() -> ClusterAuthority {
    ClusterAuthority::new("cell-a").unwrap()
}

fn answering(authority: &ClusterAuthority, admits: RoleSet, limits: ListenerLimits) -> Pair {
    let own = authority.issue(Role::Orchestrator).unwrap().identity().unwrap();
    Pair::new(&own, hello(Role::Orchestrator), admits, limits)
}

fn quick() -> ListenerLimits {
    let link = LinkLimits { handshake_max: Duration::from_millis(300), ..LinkLimits::default() };
    ListenerLimits { link, ..ListenerLimits::default() }
}

/// Calls with these secrets and hello; both ends must end with a fault. Returns the caller's fault as text, and the
/// listener's.
fn refused(pair: &mut Pair, secrets: &ClusterSecrets, wanted: Role, first: Hello) -> (String, LinkFault) {
    let before = pair.listener.counters();
    pair.call(&secrets.identity().unwrap(), wanted, first, LinkLimits::default());
    let mut refusal = None;
    pair.until("a refusal at both ends", |pair| {
        refusal = refusal.take().or(pair.listener.take_refusal());
        refusal.is_some() && !pair.caller_errors.is_empty()
    });
    assert_eq!(pair.listener.counters().opened, before.opened, "nobody got in");
    assert_eq!(pair.caller_errors.len(), 1, "reported once: {:?}", pair.caller_errors);
    (pair.caller_errors.remove(0).to_string(), refusal.unwrap().fault)
}

#[test]
fn two_members_of_a_cell_get_a_link_and_know_each_other() {
    let authority = authority();
    let mut pair = answering(&authority, all_roles(), ListenerLimits::default());
    let calling = authority.issue(node(3)).unwrap().identity().unwrap();
    let first = Hello { channel: 1, ..hello(node(3)) };
    pair.call(&calling, Role::Orchestrator, first, LinkLimits::default());
    pair.until("open", Pair::both_open);
    let peer = *pair.answerer.as_ref().unwrap().peer().unwrap();
    assert_eq!(peer.member(), Some(Member { node: NodeId(3), inc: Incarnation(5) }));
    assert_eq!((peer.channel, peer.cluster), (1, [7; 16]));
    let peer = *pair.caller.as_ref().unwrap().peer().unwrap();
    assert_eq!((peer.role, peer.channel), (Role::Orchestrator, 1));
    assert_eq!(pair.caller.as_ref().unwrap().deadline(), None);
    pair.exchange();
}

#[test]
fn certificates_of_another_authority_are_refused_at_either_end() {
    let (ours, foreign) = (authority(), authority());
    let mut pair = answering(&ours, all_roles(), ListenerLimits::default());
    let caller = foreign.issue(node(1)).unwrap();
    // The foreign caller does not trust us …
    let (cause, _) = refused(&mut pair, &caller, Role::Orchestrator, hello(node(1)));
    assert!(cause.contains("invalid peer certificate"), "{cause}");
    // … and one that does is not trusted.
    let liar = ClusterSecrets { authority: ours.certificate.clone(), ..caller };
    let (cause, fault) = refused(&mut pair, &liar, Role::Orchestrator, hello(node(1)));
    assert!(cause.contains("orchestrator at 127.0.0.1"), "{cause}");
    assert!(matches!(fault, LinkFault::Tls(_)), "{fault}");
    assert_eq!(pair.listener.counters().refused_stream, 2);
}

#[test]
fn the_process_that_answers_must_be_the_one_that_was_called() {
    let authority = authority();
    let mut pair = answering(&authority, all_roles(), ListenerLimits::default());
    let caller = authority.issue(node(1)).unwrap();
    let (cause, _) = refused(&mut pair, &caller, node(2), hello(node(1)));
    assert!(cause.contains("not valid for name \"node-2.cell-a.escape\""), "{cause}");
}

#[test]
fn a_hello_that_does_not_fit_is_refused_with_the_cause() {
    let authority = authority();
    let mut pair = answering(&authority, all_roles(), ListenerLimits::default());
    let caller = authority.issue(node(1)).unwrap();
    type Case = (Hello, &'static str, fn(&HelloFault) -> bool);
    let cases: [Case; 4] = [
        (Hello { cluster: [8; 16], ..hello(node(1)) }, "another cluster: 08080808", |f| {
            matches!(f, HelloFault::Cluster { .. })
        }),
        (Hello { expect: Incarnation(4), ..hello(node(1)) }, "incarnation 4 was expected, this is 5", |f| {
            matches!(f, HelloFault::Incarnation { .. })
        }),
        (Hello { version: 9, ..hello(node(1)) }, "protocol version 9", |f| matches!(f, HelloFault::Version { .. })),
        (Hello { channel: 2, ..hello(node(1)) }, "channel 2", |f| matches!(f, HelloFault::Channel { .. })),
    ];
    for (first, says, is) in cases {
        let (cause, fault) = refused(&mut pair, &caller, Role::Orchestrator, first);
        assert!(cause.contains("refused by the peer") && cause.contains(says), "{cause}");
        assert!(matches!(&fault, LinkFault::HelloRefused(f) if is(f)), "{fault}");
    }
    assert_eq!(pair.listener.counters().refused_hello, 4);
    // None of this hurt: an honest hello gets in.
    pair.call(&caller.identity().unwrap(), Role::Orchestrator, hello(node(1)), LinkLimits::default());
    pair.until("open", Pair::both_open);
}

#[test]
fn a_role_that_has_no_business_here_is_refused() {
    let authority = authority();
    let mut pair = answering(&authority, RoleSet::NODES, ListenerLimits::default());
    let edge = authority.issue(Role::Edge).unwrap();
    let (cause, _) = refused(&mut pair, &edge, Role::Orchestrator, hello(Role::Edge));
    assert!(cause.contains("edge is not admitted"), "{cause}");
}

#[test]
fn a_certificate_cannot_speak_for_another_role() {
    let authority = authority();
    let mut pair = answering(&authority, all_roles(), ListenerLimits::default());
    let node_1 = authority.issue(node(1)).unwrap();
    for claimed in [node(2), Role::Orchestrator, Role::Edge] {
        let addr = pair.listener.local_addr();
        let secrets = node_1.clone();
        let client = thread::spawn(move || {
            let mut tls = raw_client(&secrets, "orchestrator.cell-a.escape", addr);
            tls.write_all(&framed(&encode(&hello(claimed)).unwrap())).unwrap();
            let mut answer = Vec::new();
            let _ = tls.read_to_end(&mut answer);
            answer
        });
        pair.until("a refusal", |pair| pair.listener.take_refusal().is_some());
        let answer = client.join().unwrap();
        let HelloReply::Refused { cause } = decode(&answer[4..]).unwrap() else { panic!("welcomed {claimed:?}") };
        assert!(cause.contains("certificate does not speak for"), "{cause}");
    }
    assert_eq!(pair.listener.counters().refused_hello, 3);
}

/// Sends bytes, waits for the other end to close or for the time to pass.
fn throw(addr: SocketAddr, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut socket = TcpStream::connect(addr).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The other end may close while we write.
        let _ = socket.write_all(&bytes);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
    })
}

/// What an honest caller sends, recorded by a relay that then ends the connection.
fn record_honest_bytes(pair: &mut Pair, secrets: &ClusterSecrets) -> Vec<u8> {
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let (front, back) = (relay.local_addr().unwrap(), pair.listener.local_addr());
    let relaying = thread::spawn(move || {
        let (mut near, _) = relay.accept().unwrap();
        let mut far = TcpStream::connect(back).unwrap();
        let (mut near_in, mut far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let up = thread::spawn(move || {
            let mut sent = Vec::new();
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = near_in.read(&mut piece) {
                sent.extend_from_slice(&piece[..n]);
                far_out.write_all(&piece[..n]).unwrap();
            }
            let _ = far_out.shutdown(std::net::Shutdown::Both);
            sent
        });
        let _ = std::io::copy(&mut far, &mut near);
        up.join().unwrap()
    });
    pair.call_at(front, &secrets.identity().unwrap(), Role::Orchestrator, hello(node(1)), LinkLimits::default());
    pair.until("open through the relay", Pair::both_open);
    pair.exchange();
    pair.caller.take();
    pair.answerer.take();
    relaying.join().unwrap()
}

#[test]
fn garbage_truncated_and_replayed_bytes_hurt_nobody() {
    let authority = authority();
    let mut pair = answering(&authority, all_roles(), quick());
    let caller = authority.issue(node(1)).unwrap();
    let honest = record_honest_bytes(&mut pair, &caller);
    pair.call(&caller.identity().unwrap(), Role::Orchestrator, hello(node(1)), LinkLimits::default());
    pair.until("open", Pair::both_open);
    let mut flipped = honest.clone();
    flipped[60] ^= 1;
    let thrown: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 100_000],
        vec![0xff; 70],
        (0..=255).cycle().take(5000).collect(),
        // A handshake record that announces much and brings little.
        vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff],
        honest[..honest.len() / 2].to_vec(),
        honest[..40].to_vec(),
        flipped,
        honest,
    ];
    let count = thrown.len() as u64;
    let before = pair.listener.counters();
    let throwers: Vec<_> = thrown.into_iter().map(|bytes| throw(pair.listener.local_addr(), bytes)).collect();
    let refused_of = |pair: &Pair| {
        let now = pair.listener.counters();
        now.refused_stream + now.timed_out - before.refused_stream - before.timed_out
    };
    pair.until("all refused", |pair| refused_of(pair) == count);
    for thrower in throwers {
        thrower.join().unwrap();
    }
    assert_eq!(pair.listener.counters().opened, before.opened);
    assert!(pair.caller_errors.is_empty() && pair.answerer_errors.is_empty());
    pair.exchange();
}

#[test]
fn a_hello_with_a_wild_length_or_content_is_refused() {
    let authority = authority();
    let mut pair = answering(&authority, all_roles(), quick());
    let secrets = authority.issue(node(1)).unwrap();
    for (wild, oversize) in [
        (vec![0xff; 4], true),
        (framed(&[9; 1025]), true),
        (framed(&[]), false),
        (framed(&[0xff; 30]), false),
        (framed(&[encode(&hello(node(1))).unwrap(), vec![0]].concat()), false),
    ] {
        let addr = pair.listener.local_addr();
        let secrets = secrets.clone();
        let client = thread::spawn(move || {
            let mut tls = raw_client(&secrets, "orchestrator.cell-a.escape", addr);
            tls.write_all(&wild).unwrap();
            let _ = tls.read(&mut [0; 100]);
        });
        let mut refusal = None;
        pair.until("a refusal", |pair| {
            refusal = refusal.take().or(pair.listener.take_refusal());
            refusal.is_some()
        });
        let fault = refusal.unwrap().fault;
        assert_eq!(matches!(fault, LinkFault::Oversize { limit: 1024, .. }), oversize, "{fault}");
        assert_eq!(matches!(fault, LinkFault::Malformed(_)), !oversize, "{fault}");
        client.join().unwrap();
    }
}

#[test]
fn slow_and_silent_callers_are_timed_out() {
    let authority = authority();
    let mut pair = answering(&authority, all_roles(), quick());
    let addr = pair.listener.local_addr();
    let silent = TcpStream::connect(addr).unwrap();
    let slow = thread::spawn(move || {
        let mut socket = TcpStream::connect(addr).unwrap();
        let start = Instant::now();
        while socket.write_all(&[0x16]).is_ok() && start.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(20));
        }
        start.elapsed()
    });
    let start = Instant::now();
    pair.until("both are gone", |pair| {
        let counters = pair.listener.counters();
        counters.timed_out + counters.refused_stream == 2
    });
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(pair.listener.counters().timed_out >= 1);
    assert!(slow.join().unwrap() < Duration::from_secs(3));
    drop(silent);
}

#[test]
fn a_caller_of_somebody_silent_gives_up() {
    let authority = authority();
    let mut pair = answering(&authority, all_roles(), ListenerLimits::default());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let caller = authority.issue(node(1)).unwrap().identity().unwrap();
    let limits = LinkLimits { handshake_max: Duration::from_millis(200), ..LinkLimits::default() };
    pair.call_at(silent.local_addr().unwrap(), &caller, Role::Orchestrator, hello(node(1)), limits);
    pair.until("a timeout", |pair| !pair.caller_errors.is_empty());
    assert!(matches!(pair.caller_errors[0].fault, LinkFault::HandshakeTimeout { limit_ms: 200 }));
    // And of an address where nobody listens.
    let gone = silent.local_addr().unwrap();
    drop(silent);
    pair.caller_errors.clear();
    pair.call_at(gone, &caller, Role::Orchestrator, hello(node(1)), limits);
    pair.until("a refusal", |pair| !pair.caller_errors.is_empty());
    let text = pair.caller_errors[0].to_string();
    assert!(text.contains("orchestrator at") && text.contains("nobody listens there"), "{text}");
}

#[test]
fn a_crowd_of_silent_connections_does_not_keep_members_out() {
    let authority = authority();
    let limits = ListenerLimits { pending_max: 8, pending_per_address_max: 64, ..ListenerLimits::default() };
    let mut pair = answering(&authority, all_roles(), limits);
    let crowd: Vec<_> = (0..40).map(|_| TcpStream::connect(pair.listener.local_addr()).unwrap()).collect();
    pair.until("the crowd is seen", |pair| pair.listener.counters().accepted == 40);
    assert_eq!(pair.listener.counters().crowded, 32);
    let caller = authority.issue(node(1)).unwrap().identity().unwrap();
    pair.call(&caller, Role::Orchestrator, hello(node(1)), LinkLimits::default());
    pair.until("open", Pair::both_open);
    drop(crowd);
}

#[test]
fn one_address_cannot_take_all_places_and_the_accept_rate_is_bounded() {
    let authority = authority();
    let limits = ListenerLimits {
        pending_per_address_max: 4,
        accepts_per_second: 100,
        accept_burst: 10,
        ..ListenerLimits::default()
    };
    let mut pair = answering(&authority, all_roles(), limits);
    let start = Instant::now();
    let crowd: Vec<_> = (0..30).map(|_| TcpStream::connect(pair.listener.local_addr()).unwrap()).collect();
    pair.until("the crowd is seen", |pair| pair.listener.counters().accepted == 30);
    assert!(start.elapsed() >= Duration::from_millis(150), "20 beyond the burst at 100/s: {:?}", start.elapsed());
    assert_eq!(pair.listener.counters().over_address, 26);
    drop(crowd);
}
