//! Many connections, and long: T25, T30.

use crate::kills::{COUNT, assert_counts, replies};
use crate::support::client::{Manual, Options};
use crate::support::http::{Checked, Stream};
use crate::support::world::Survives;
use crate::support::{HTTP, Rng, SECOND, STREAM, World};
use std::time::Instant;

/// 64 connections in 64 slots, every kind of client, all at work; the guest dies, and all go on.
#[test]
fn t25_64_flows_in_64_slices() {
    for survives in Survives::ALL {
        let mut world = World::new(25, 64);
        for n in 0..64u64 {
            let options = Options { timestamps: n % 2 == 0, sack: n % 3 == 0, ..Options::default() };
            match n % 8 {
                7 => world.connect_with(STREAM, options, Box::new(Stream::new(20_000))),
                _ => world.connect_with(HTTP, options, Box::new(Checked::new(n, 40))),
            };
        }
        world.run_for(12_000);
        assert_eq!(world.guest.server.sessions(), 64);
        world.step(Some(survives));
        world.failover();
        world.run_until(60 * SECOND, |w| w.clients.iter().all(|c| c.app.done()));
        assert!(world.clients.iter().all(|c| c.resets == 0));
    }
}

/// Half an hour of sessions with pauses, and a death every ten seconds or so.
#[test]
fn t30_half_an_hour_of_random_deaths() {
    let (began, mut world) = (Instant::now(), World::new(30, 64));
    let mut rng = Rng(30);
    let clients: Vec<_> = (0..6).map(|_| world.connect(HTTP, Box::new(Manual))).collect();
    let end = world.now + 1800 * SECOND;
    for round in 1.. {
        if world.now >= end {
            break;
        }
        world.run_for(rng.below(12 * SECOND as u64) as i64);
        for n in &clients {
            world.clients[*n].outgoing.extend(COUNT);
            world.poll_client(*n);
        }
        for _ in 0..rng.below(6) {
            world.step(None);
        }
        world.step(Some(Survives::ALL[rng.below(4) as usize]));
        world.failover();
        world.run_for(4 * SECOND);
        for n in &clients {
            let got = replies(&mut world, *n);
            assert_eq!(got.len(), 1, "client {n}, round {round}");
            assert_counts(&got, round);
        }
    }
    println!("{} failovers, {} frames, {:?}", world.failovers, world.oracle.frames, began.elapsed());
    assert!(world.failovers > 100 && world.clients.iter().all(|c| c.resets == 0));
}
