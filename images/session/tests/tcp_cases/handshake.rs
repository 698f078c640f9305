//! Connection setup: T12, T23, T24, and what is agreed in it (T11).

use crate::kills::{COUNT, assert_counts, at_every_turn, replies, run_to_the_end, twice_at_every_turn};
use crate::support::client::{Manual, Options};
use crate::support::http::{Checked, Stream};
use crate::support::raw::Raw;
use crate::support::segment::{ACK, CWR, ECE, OPTION_SCALE, SYN, Segment};
use crate::support::world::Survives;
use crate::support::{HTTP, SECOND, STREAM, World};
use smoltcp::socket::tcp::State;

fn world() -> World {
    World::new(12, 64)
}

/// A connection, and one request on it.
fn connect_and_count(world: &mut World) {
    let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
    world.clients[n].outgoing.extend(COUNT);
    world.run_until(20 * SECOND, |w| w.clients[n].incoming.ends_with(b"\n\r\n1\n"));
    assert_counts(&replies(world, n), 1);
    assert_eq!((world.clients[n].state(), world.guest.server.sessions()), (State::Established, 1));
}

#[test]
fn t12_failover_at_each_step_of_the_handshake() {
    at_every_turn(world, connect_and_count);
}

#[test]
fn t12_two_failovers_at_each_step_of_the_handshake() {
    twice_at_every_turn(world, connect_and_count);
}

/// The only copy of an answer that never left is the image: the new owner sends it by itself.
#[test]
fn t12_a_syn_ack_that_was_committed_and_never_sent_comes_from_the_next_owner() {
    let mut world = world();
    let flow = Raw::flow(&mut world, 1, HTTP);
    world.plan = Some(crate::support::world::Kill { turn: 0, survives: Survives::Commit, again: None });
    world.mirror_loss_percent = 100;
    let peer = Raw::connect(&mut world, flow, 5000, &[]);
    assert_eq!(world.failovers, 1);
    world.failover();
    let flow_is = world.bound.get(&flow).copied();
    assert!(flow_is.is_some() && peer.syn_ack.flags == SYN | ACK);
    assert_eq!(world.guest.server.sessions(), 1);
}

/// The SYN comes again at each owner: one connection, one initial sequence number. (A repeated SYN draws no answer by itself; the
/// server's timer, 200 ms, or a plug sends the SYN-ACK again before the client's timer, 1 s, asks.)
#[test]
fn t12_a_repeated_syn_gets_the_same_answer_from_every_owner() {
    let mut world = world();
    let flow = Raw::flow(&mut world, 1, HTTP);
    let mut answers = vec![];
    for _ in 0..5 {
        world.raw_send(Segment::new(flow, 77, 0, SYN));
        world.run_for(300_000);
        answers.extend(world.raw_take(flow));
        world.turn(vec![], Some(Survives::Everything));
        world.failover();
        answers.extend(world.raw_take(flow));
    }
    assert!(answers.len() >= 6, "{}", answers.len());
    assert!(answers.iter().all(|a| (a.flags, a.seq, a.ack) == (SYN | ACK, answers[0].seq, 78)), "{answers:?}");
    assert_eq!(world.images.len(), 1);
}

/// Data in the segment that ends the handshake, lost with its owner or not.
#[test]
fn t12_the_first_data_comes_with_the_last_ack_of_the_handshake() {
    for survives in Survives::ALL {
        let mut world = world();
        let flow = Raw::flow(&mut world, 1, HTTP);
        world.raw_send(Segment::new(flow, 77, 0, SYN));
        let syn_ack = world.raw_take(flow).pop().unwrap();
        let mut peer = Raw { flow, next: 78, expected: syn_ack.seq.wrapping_add(1), window: 9000, syn_ack };
        let first = peer.at(0, ACK, COUNT);
        peer.next = peer.next.wrapping_add(COUNT.len() as u32);
        world.mirror_loss_percent = 100;
        world.turn(vec![first.frame()], Some(survives));
        let (_, mut bytes) = peer.take(&mut world);
        world.failover();
        bytes.extend(peer.take(&mut world).1);
        if survives == Survives::Nothing {
            assert_eq!(bytes, b"");
            world.raw_send(first);
            bytes.extend(peer.take(&mut world).1);
        }
        assert!(bytes.ends_with(b"\r\n\r\n1\n"), "{survives:?}: {:?}", String::from_utf8_lossy(&bytes));
    }
}

/// A client that offers ECN is answered as by a host without it, and served.
#[test]
fn t23_ecn_is_declined() {
    let mut world = world();
    let flow = Raw::flow(&mut world, 1, HTTP);
    world.raw_send(Segment::new(flow, 77, 0, SYN | ECE | CWR));
    let syn_ack = world.raw_take(flow).pop().unwrap();
    assert_eq!(syn_ack.flags, SYN | ACK);
    let mut peer = Raw { flow, next: 78, expected: syn_ack.seq.wrapping_add(1), window: 9000, syn_ack };
    peer.ack(&mut world);
    world.failover();
    // "Congestion experienced" in the IP header, and a sender that says so.
    let mut marked = peer.at(0, ACK | CWR, COUNT).frame();
    marked[15] = 3;
    crate::support::segment::fill_checksums(&mut marked);
    world.turn(vec![marked], None);
    let (seen, bytes) = peer.take(&mut world);
    assert!(seen.iter().all(|s| s.flags & (ECE | CWR) == 0) && bytes.ends_with(b"1\n"), "{seen:?}");
}

/// All clients without timestamps, SACK or window scaling, and all mixtures, with a death at each turn.
#[test]
fn t24_clients_without_timestamps_sack_or_scaling() {
    for bits in 0..8 {
        let (timestamps, sack) = (bits & 1 != 0, bits & 2 != 0);
        let options = Options { timestamps, sack, scale: (bits & 4 != 0).then_some(0), ..Options::default() };
        at_every_turn(world, |world| {
            let n = world.connect_with(HTTP, options, Box::new(Checked::new(24, 4)));
            run_to_the_end(world, 60 * SECOND);
            assert_eq!(world.clients[n].resets, 0);
        });
    }
}

/// The same over a network that loses and reorders: without SACK and without timestamps all of it must still be recovered.
#[test]
fn t24_clients_without_timestamps_or_sack_on_a_bad_network() {
    for bits in 0..4 {
        let mut world = World::new(24 + bits, 64);
        (world.loss_percent, world.jitter) = (4, 4000);
        let options = Options { timestamps: bits & 1 != 0, sack: bits & 2 != 0, ..Options::default() };
        world.connect_with(HTTP, options, Box::new(Checked::new(bits, 40)));
        world.connect_with(STREAM, options, Box::new(Stream::new(60_000)));
        for survives in Survives::ALL.repeat(2) {
            world.run_for(200_000);
            world.step(Some(survives));
            world.failover();
        }
        world.run_until(600 * SECOND, |w| w.clients.iter().all(|c| c.app.done()));
    }
}

/// The shift that the client announced is in the image: windows mean the same at every owner.
#[test]
fn t11_window_scales_survive() {
    for scale in [None, Some(0), Some(7), Some(14)] {
        let options = Options { scale, receive: 60_000, ..Options::default() };
        let mut world = World::new(11, 64);
        let n = world.connect_with(HTTP, options, Box::new(Manual));
        world.clients[n].outgoing.extend(b"GET /bytes?n=400000 HTTP/1.1\r\nHost: x\r\n\r\n");
        world.poll_client(n);
        let flow = world.flow(n);
        for round in 0.. {
            world.run_for(2000);
            if world.clients[n].incoming.len() > 400_000 {
                break;
            }
            assert!(round < 2000, "{scale:?}: {} bytes", world.clients[n].incoming.len());
            if round % 2 == 0 {
                world.step(Some(Survives::ALL[round / 2 % 4]));
                world.failover();
            }
        }
        world.run_for(SECOND);
        let got = replies(&mut world, n);
        assert_eq!(escape_session::pattern::count_wrong(&got[0].body, 0), 0);
        assert!(world.failovers > 2 && world.oracle.sent(flow) > 400_000, "{}", world.failovers);
    }
}

/// A shift is announced if the client announced one; the SYN-ACK's own window is not shifted.
#[test]
fn t11_scaling_is_offered_to_those_who_have_it() {
    for (options, offered) in [(&[][..], false), (&[3, 3, 9, 0][..], true)] {
        let mut world = world();
        let flow = Raw::flow(&mut world, 1, HTTP);
        let peer = Raw::connect(&mut world, flow, 1, options);
        assert_eq!(peer.syn_ack.option(OPTION_SCALE).is_some(), offered);
        assert_eq!(peer.syn_ack.window, 32 << 10);
    }
}
