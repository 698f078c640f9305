//! What the network loses, repeats and reorders: T7, T9, T19, T27, T29.

use crate::kills::{COUNT, On, assert_counts, replies};
use crate::support::client::{Manual, Options};
use crate::support::http::{Checked, Stream};
use crate::support::raw::Raw;
use crate::support::segment::{ACK, OPTION_SACK};
use crate::support::world::Survives;
use crate::support::{HTTP, MS, SECOND, STREAM, World};
use escape_session::pattern;

/// The client has all that was sent, 60,000 bytes, and none of its acknowledgements was in time: the new owner begins far behind it, accepts
/// one acknowledgement of everything, and sends nothing of it any more.
#[test]
fn t07_kill_with_the_client_far_ahead() {
    for survives in Survives::ALL {
        let _on = On(survives);
        let mut world = World::new(7, 64);
        let flow = Raw::flow(&mut world, 1, HTTP);
        // Window scale 7: all fits its window.
        let mut peer = Raw::connect(&mut world, flow, 1, &[3, 3, 7, 0]);
        let request = b"GET /bytes?n=50000 HTTP/1.1\r\nHost: x\r\n\r\n";
        peer.send(&mut world, request);
        let mut reply = peer.take(&mut world).1;
        assert!(reply.len() > 50_000);
        world.turn(vec![], Some(survives));
        world.failover();
        let (seen, more) = peer.take(&mut world);
        assert!(!seen.is_empty() && more.is_empty(), "it sends again, and it is what was sent before");
        peer.ack(&mut world);
        let (seen, _) = peer.take(&mut world);
        assert!(seen.iter().all(|s| s.payload.is_empty()), "{seen:?}");
        peer.send(&mut world, COUNT);
        let (seen, more) = peer.take(&mut world);
        assert_eq!(seen.iter().filter(|s| !s.payload.is_empty()).count(), 1);
        assert!(more.ends_with(b"\r\n\r\n1\n"), "{:?}", String::from_utf8_lossy(&more));
        let body = reply.split_off(reply.len() - 50_000);
        assert_eq!(pattern::count_wrong(&body, 0), 0);
    }
}

/// Segments behind a hole are in the image: when the hole is filled at the new owner, all is acknowledged at once.
#[test]
fn t09_kill_with_a_hole() {
    // With SACK and without; near the end of the number space too.
    for (options, iss) in [(&[4, 2, 0, 0][..], 1), (&[][..], 1), (&[4, 2, 0, 0], u32::MAX - 40), (&[], u32::MAX - 20)] {
        for survives in Survives::ALL {
            let _on = On((options, iss, survives));
            let mut world = World::new(9, 64);
            let flow = Raw::flow(&mut world, 1, HTTP);
            let mut peer = Raw::connect(&mut world, flow, iss, options);
            let body: Vec<u8> = (0..3000).map(pattern::pattern).collect();
            let request = [&b"PUT /kv/hole HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n"[..], &body].concat();
            let parts: Vec<_> = request.chunks(500).enumerate().map(|(n, c)| (n as u32 * 500, c)).collect();
            // 0 and 3 are missing.
            for (at, part) in [parts[2], parts[1], parts[6], parts[5], parts[4]] {
                world.raw_send(peer.at(at, ACK, part));
            }
            let sacks = |seen: &[crate::support::segment::Seen]| seen.iter().any(|s| s.option(OPTION_SACK).is_some());
            let (seen, _) = peer.take(&mut world);
            assert_eq!(sacks(&seen), !options.is_empty(), "{seen:?}");
            world.turn(vec![], Some(survives));
            world.failover();
            world.raw_send(peer.at(0, ACK, parts[0].1));
            world.run_for(20 * MS);
            let (seen, _) = peer.take(&mut world);
            assert_eq!(seen.last().map(|s| s.ack), Some(peer.next.wrapping_add(1500)), "{seen:?}");
            world.turn(vec![], Some(survives));
            world.failover();
            world.raw_send(peer.at(1500, ACK, parts[3].1));
            peer.next = peer.next.wrapping_add(request.len() as u32);
            let (_, reply) = peer.take(&mut world);
            assert!(reply.starts_with(b"HTTP/1.1 201 "), "{:?}", String::from_utf8_lossy(&reply));
            peer.send(&mut world, b"GET /kv/hole HTTP/1.1\r\nHost: x\r\n\r\n");
            let (_, mut reply) = peer.take(&mut world);
            assert_eq!(reply.split_off(reply.len() - 3000), body);
        }
    }
}

#[test]
fn t19_loss_duplicates_and_disorder_during_failovers() {
    for seed in 190..194 {
        let _on = On(seed);
        let mut world = World::new(seed, 64);
        (world.loss_percent, world.duplicate_percent, world.jitter) = (5, 5, 5000);
        for n in 0..3 {
            world.connect(HTTP, Box::new(Checked::new(seed ^ n, 20)));
        }
        world.connect(STREAM, Box::new(Stream::new(50_000)));
        let mut rounds = 0..3000;
        while !world.clients.iter().all(|c| c.app.done()) {
            let round: usize = rounds.next().expect("stuck");
            world.run_for(150 * MS);
            world.step(Some(Survives::ALL[round % 4]));
            world.failover();
        }
        assert!(world.clients.iter().all(|c| c.resets == 0));
    }
}

/// The network takes nothing larger than 600 bytes, and says so in the MSS, as a router that clamps it does. There is no path MTU
/// discovery in the guest: ICMP is not looked at (`t27_icmp_changes_nothing`).
#[test]
fn t27_a_small_path_is_kept_to_by_every_owner() {
    let mut world = World::new(27, 64);
    let n = world.connect_with(HTTP, Options { mtu: 600, ..Options::default() }, Box::new(Checked::new(27, 30)));
    for survives in Survives::ALL {
        world.run_for(20 * MS);
        world.step(Some(survives));
        world.failover();
    }
    world.run_until(60 * SECOND, |w| w.clients[n].app.done());
}

/// The client is deep in its back-off: its request has been lost for seven seconds. The new owner has nothing to send again and does not
/// know of it; the client's next try is served at once.
#[test]
fn t29_failover_while_the_client_backs_off() {
    for survives in Survives::ALL {
        let _on = On(survives);
        let mut world = World::new(29, 64);
        let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
        world.run_for(100 * MS);
        world.cut_up = true;
        world.clients[n].outgoing.extend(COUNT);
        world.poll_client(n);
        world.run_for(7 * SECOND);
        world.turn(vec![], Some(survives));
        world.failover();
        world.cut_up = false;
        // It waits 1, 2, 4, 8 s. An answer to the new owner's greeting does not hurry it.
        world.run_until(9 * SECOND, |w| !w.clients[n].incoming.is_empty());
        assert_counts(&replies(&mut world, n), 1);
        world.clients[n].outgoing.extend(COUNT);
        world.poll_client(n);
        world.run_for(100 * MS);
        let next = replies(&mut world, n);
        assert_eq!(next.len(), 1);
        assert_counts(&next, 2);
    }
}

/// The other way round: the request was served, and for seven seconds no reply gets through. The new owner does not inherit a
/// wait: it sends at once.
#[test]
fn t29_failover_while_the_server_backs_off() {
    for survives in Survives::ALL {
        let _on = On(survives);
        let mut world = World::new(290, 64);
        let n = world.connect_with(HTTP, Options::default(), Box::new(Manual));
        world.run_for(100 * MS);
        world.cut_down = true;
        world.clients[n].outgoing.extend(COUNT);
        world.poll_client(n);
        world.run_for(7 * SECOND);
        world.turn(vec![], Some(survives));
        world.cut_down = false;
        let start = world.now;
        world.failover();
        world.run_until(SECOND, |w| !w.clients[n].incoming.is_empty());
        assert!(world.now - start <= 5 * MS, "{} us", world.now - start);
        assert_counts(&replies(&mut world, n), 1);
    }
}
