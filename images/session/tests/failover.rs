//! Sessions that survive the death of their guest, at any moment, with nothing but their declared memory.

#![allow(clippy::unwrap_used)]

mod support;

use support::http::{Checked, Stream};
use support::world::Survives;
use support::{HTTP, Rng, STREAM, World, seed};

/// Steps of the world that a run may take: a livelock fails, it does not hang.
const STEPS_MAX: u64 = 400_000;

/// With `every` = 0 there are no failovers; else they come after random times below `every` us.
fn run(seed: u64, requests: u32, every: u64, loss_percent: u64, jitter: i64) {
    let mut world = World::new(seed, 64);
    world.loss_percent = loss_percent;
    world.jitter = jitter;
    for n in 0..6u64 {
        match n % 3 {
            2 => world.connect(STREAM, Box::new(Stream::new(60_000))),
            _ => world.connect(HTTP, Box::new(Checked::new(seed ^ n, requests))),
        };
    }
    let mut rng = Rng(!seed);
    let mut steps = 0;
    let mut next = world.now + if every > 0 { rng.below(every) as i64 } else { i64::MAX / 2 };
    while !world.clients.iter().all(|c| c.app.done()) {
        steps += 1;
        assert!(steps < STEPS_MAX, "seed {seed}: stuck: {:?}", world.guest.server.counters());
        if world.now >= next {
            let survives = [Survives::Nothing, Survives::Commit, Survives::CommitAndSomeFrames][rng.below(3) as usize];
            world.step(Some(survives));
            world.failover();
            next = world.now + rng.below(every) as i64;
        }
        world.step(None);
    }
    assert!(world.clients.iter().all(|c| c.resets == 0));
    let per_capture = world.captured_bytes / world.captures.max(1);
    println!(
        "seed {seed}: {steps} steps, {} failovers, {} captures of {per_capture} bytes",
        world.failovers, world.captures
    );
}

#[test]
fn quiet_network() {
    let seed = seed(100);
    for s in 0..4 {
        run(seed + s, 150, 20_000, 0, 0);
    }
}

#[test]
fn loss_and_reorder() {
    let seed = seed(200);
    for s in 0..2 {
        run(seed + s, 30, 2_000_000, 3, 4000);
    }
}

#[test]
fn no_failover_with_loss() {
    let seed = seed(300);
    for s in 0..2 {
        run(seed + s, 40, 0, 5, 6000);
    }
}
