//! Sessions that survive the death of their guest, at any moment, with nothing but their declared memory.

mod support;

use support::http::{Checked, Stream};
use support::world::Survives;
use support::{HTTP, Rng, SECOND, STREAM, World, seed};

fn run(seed: u64, failover_percent: u64, loss_percent: u64, jitter: i64) {
    let mut world = World::new(seed, 64);
    world.loss_percent = loss_percent;
    world.jitter = jitter;
    for n in 0..6u64 {
        match n % 3 {
            2 => world.connect(STREAM, Box::new(Stream::new(200_000))),
            _ => world.connect(HTTP, Box::new(Checked::new(seed ^ n, 60))),
        };
    }
    let mut rng = Rng(!seed);
    let end = world.now + 3600 * SECOND;
    while !world.clients.iter().all(|c| c.app.done()) {
        assert!(world.now < end, "seed {seed}: stuck: {:?}", world.guest.server.counters());
        if rng.below(1000) < failover_percent * 10 {
            let survives = [Survives::Nothing, Survives::Commit, Survives::CommitAndSomeFrames][rng.below(3) as usize];
            world.step(Some(survives));
            world.failover();
        }
        world.step(None);
    }
    assert!(world.clients.iter().all(|c| c.resets == 0));
    let per_capture = world.captured_bytes / world.captures.max(1);
    println!("seed {seed}: {} failovers, {} captures of {per_capture} bytes", world.failovers, world.captures);
}

#[test]
fn quiet_network() {
    let seed = seed(100);
    for s in 0..4 {
        run(seed + s, 3, 0, 0);
    }
}

#[test]
fn loss_and_reorder() {
    let seed = seed(200);
    for s in 0..4 {
        run(seed + s, 2, 3, 4000);
    }
}

#[test]
fn no_failover_with_loss() {
    let seed = seed(300);
    for s in 0..3 {
        run(seed + s, 0, 5, 6000);
    }
}
