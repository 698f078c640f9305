//! Sequence numbers, timestamps, segment sizes: T4, T10, T39.

use crate::kills::{COUNT, On, at_every_turn, run_to_the_end};
use crate::support::client::{Manual, Options};
use crate::support::http::{Checked, Stream};
use crate::support::raw::Raw;
use crate::support::segment::{ACK, Seen};
use crate::support::world::Survives;
use crate::support::{HTTP, MS, Rng, SECOND, STREAM, Seeds, World};

/// A world whose server's first initial sequence number is `isn`.
fn world_at(isn: u32) -> World {
    World::with_server_seed(Rng(4), Seeds::for_isn(isn), 64)
}

#[test]
fn t04_the_initial_numbers_are_those_that_were_asked_for() {
    let mut world = world_at(u32::MAX - 5);
    let flow = Raw::flow(&mut world, 1, HTTP);
    assert_eq!(Raw::connect(&mut world, flow, 1, &[]).syn_ack.seq, u32::MAX - 5);
    let n = world.connect_with(HTTP, Options { isn: Some(u32::MAX), ..Options::default() }, Box::new(Manual));
    world.run_for(10 * MS);
    assert_eq!(world.committed[&world.flow(n)].rcv_nxt, 0);
}

/// Both directions pass 2^32 in the handshake, in the first request, in the first reply, in a later one; a death at each turn.
#[test]
fn t04_numbers_near_the_end_of_their_space_in_both_directions() {
    for (server, client) in [(1, 1), (2, 0), (300, 30), (1000, 1000), (20, 2500)] {
        at_every_turn(
            || world_at(0u32.wrapping_sub(server)),
            |world| {
                let options = Options { isn: Some(0u32.wrapping_sub(client)), ..Options::default() };
                world.connect_with(HTTP, options, Box::new(Checked::new(4, 3)));
                run_to_the_end(world, 200 * SECOND);
            },
        );
    }
}

/// A megabyte each way over the end of the number space, with loss.
#[test]
fn t04_streams_wrap() {
    let mut world = world_at(0u32.wrapping_sub(200_000));
    (world.loss_percent, world.jitter) = (1, 1000);
    let options = Options { isn: Some(0u32.wrapping_sub(300_000)), ..Options::default() };
    world.connect_with(STREAM, options, Box::new(Stream::new(1_000_000)));
    for survives in Survives::ALL.repeat(3) {
        world.run_for(200 * MS);
        world.step(Some(survives));
        world.failover();
    }
    run_to_the_end(&mut world, 300 * SECOND);
}

/// The last byte sent is the last of the number space, so the next number is 0, and then an old segment alone is sent again: "0" is a number like
/// any other, not "nothing sent yet". (The world finds a commit whose numbers go back.)
#[test]
fn t04_the_next_number_is_exactly_zero() {
    let request = b"GET /bytes?n=4000 HTTP/1.1\r\nHost: x\r\n\r\n";
    let first = |isn: u32| {
        let mut world = world_at(isn);
        let flow = Raw::flow(&mut world, 1, HTTP);
        let mut peer = Raw::connect(&mut world, flow, 1, &[2, 4, 5, 180]);
        peer.send(&mut world, request);
        let (seen, _) = peer.take(&mut world);
        (world, peer, seen)
    };
    let (_, peer, seen) = first(0);
    assert!(seen.len() >= 3, "some segments");
    let (mut world, mut peer, seen) = first(0u32.wrapping_sub(peer.expected));
    assert_eq!((peer.expected, world.committed[&peer.flow].snd_nxt), (0, 0));
    let start = seen[0].seq;
    peer.expected = start;
    for _ in 0..4 {
        // The fourth is the third duplicate: the first segment comes again, alone.
        peer.ack(&mut world);
    }
    let again = world.raw_take(peer.flow);
    assert_eq!((again.len(), again[0].seq), (1, start), "{again:?}");
    assert_eq!(world.committed[&peer.flow].snd_nxt, 0);
    world.turn(vec![], Some(Survives::Everything));
    world.failover();
    peer.expected = 0;
    peer.ack(&mut world);
    peer.take(&mut world);
    // All is acknowledged: nothing is sent again, and the next reply comes as usual.
    world.run_for(5 * SECOND);
    assert_eq!(peer.take(&mut world).0, []);
    peer.send(&mut world, COUNT);
    assert!(peer.take(&mut world).1.ends_with(b"\r\n\r\n1\n"));
}

/// Owners whose clocks differ by hours: the timestamp goes on by the time that has passed, not by any host's clock.
#[test]
fn t10_clocks_of_hosts_do_not_show_in_timestamps() {
    let hour = 3600 * SECOND;
    let mut world = World::new(10, 64);
    world.skews = [3 * hour, 2 * hour, 2 * hour - 10 * SECOND, 3 * hour, 1].into();
    let flow = Raw::flow(&mut world, 1, HTTP);
    let mut peer = Raw::connect(&mut world, flow, 1, &[8, 10, 0, 0, 0, 1, 0, 0, 0, 0]);
    let (first, start) = (peer.syn_ack.tsval().unwrap(), world.now);
    for owner in 0..5 {
        world.turn(vec![], Some(Survives::ALL[owner % 4]));
        world.failover();
        for _ in 0..3 {
            world.run_for(200 * MS);
            let stamp = [&[8, 10][..], &7u32.to_be_bytes(), &first.to_be_bytes()].concat();
            let request = peer.at(0, ACK, COUNT).options(&stamp);
            peer.next = peer.next.wrapping_add(COUNT.len() as u32);
            world.raw_send(request);
            let (seen, bytes) = peer.take(&mut world);
            assert!(bytes.ends_with(b"\n"));
            let passed = (world.now - start) / MS;
            let shown = i64::from(seen.last().and_then(Seen::tsval).unwrap().wrapping_sub(first));
            // The clock of a slice stands still from its last event to its plug.
            assert!(shown <= passed + 1 && shown >= passed - 250 * (owner as i64 + 1), "{shown} of {passed} ms");
            // Acknowledges the reply, with the options that the connection has.
            world.raw_send(peer.at(0, ACK, &[]).options(&stamp));
        }
    }
}

#[test]
fn t10_clocks_of_hosts_do_not_stop_a_client() {
    let hour = 3600 * SECOND;
    for timestamps in [false, true] {
        let _on = On(timestamps);
        let mut world = World::new(10, 64);
        world.skews = [3 * hour, 2 * hour, 2 * hour - 10 * SECOND, 3 * hour].into();
        let options = Options { timestamps, ..Options::default() };
        let n = world.connect_with(HTTP, options, Box::new(Checked::new(10, 100)));
        for survives in Survives::ALL {
            world.run_for(10 * MS);
            world.step(Some(survives));
            world.failover();
        }
        let start = world.now;
        world.run_until(60 * SECOND, |w| w.clients[n].app.done());
        assert!(world.now - start < 10 * SECOND, "{} us", world.now - start);
    }
}

/// Full segments are as large after a failover as before, and never larger than the client's MSS (which the world checks).
#[test]
fn t39_the_segment_size_survives() {
    for mss in [536u16, 1000, 1460, 9000] {
        let _on = On(mss);
        let mut world = World::new(39, 64);
        let flow = Raw::flow(&mut world, 1, HTTP);
        let [high, low] = mss.to_be_bytes();
        let mut peer = Raw::connect(&mut world, flow, 1, &[2, 4, high, low]);
        for survives in Survives::ALL {
            peer.send(&mut world, b"GET /bytes?n=20000 HTTP/1.1\r\nHost: x\r\n\r\n");
            let largest = |seen: &[Seen]| seen.iter().map(|s| s.payload.len()).max();
            let want = Some(usize::from(mss.min(1460)));
            assert_eq!(largest(&peer.take(&mut world).0), want);
            world.turn(vec![], Some(survives));
            world.failover();
            assert_eq!(largest(&peer.take(&mut world).0), want, "what is sent again at plug");
            peer.ack(&mut world);
        }
    }
}
