//! All of it at once, at random.
//!
//! `SESSION_SEED=n SESSION_SEEDS=1 cargo test -p escape-session --release --test tcp_cases random_` runs seed n alone;
//! `SESSION_SEEDS=10000` runs as many from the first on.

use crate::support::client::Options;
use crate::support::http::{Checked, Stream};
use crate::support::world::Survives;
use crate::support::{HTTP, MS, Rng, SECOND, STREAM, Seeds, World, seed};

/// Seeds of a usual run.
const SEEDS: u64 = 300;
/// Steps of the world that a run may take: a livelock fails, it does not hang.
const STEPS_MAX: u64 = 300_000;

fn options(rng: &mut Rng) -> Options {
    let near_the_end = (1 + rng.below(3000)) as u32;
    Options {
        timestamps: rng.chance(60),
        sack: rng.chance(60),
        scale: [None, Some(0), Some(0), Some(7)][rng.below(4) as usize],
        isn: rng.chance(30).then(|| 0u32.wrapping_sub(near_the_end)),
        mtu: [576, 1280, 1500, 1500, 9000][rng.below(5) as usize],
        receive: [2000, 8000, 32_000, 60_000][rng.below(4) as usize],
        keep_alive: rng.chance(20).then_some(500_000),
        timeout: None,
        home: None,
    }
}

fn one(seed: u64) {
    let mut rng = Rng(seed);
    let near_the_end = 0u32.wrapping_sub((1 + rng.below(3000)) as u32);
    let server_seed = if rng.chance(30) { Seeds::for_isn(near_the_end) } else { rng.next() };
    let mut world = World::with_server_seed(Rng(!seed), server_seed, 64);
    let pick = |rng: &mut Rng, of: &[u64]| of[rng.below(of.len() as u64) as usize];
    world.loss_percent = pick(&mut rng, &[0, 0, 1, 5, 10]);
    world.duplicate_percent = pick(&mut rng, &[0, 0, 3, 10]);
    world.jitter = pick(&mut rng, &[0, 500, 5000, 20_000]) as i64;
    world.commit_delay = pick(&mut rng, &[0, 0, 1000, 8000]) as i64;
    world.commit_every = pick(&mut rng, &[0, 0, 0, 10_000]) as i64;
    world.mirror_loss_percent = pick(&mut rng, &[0, 5, 50, 100]);
    // Faults end: a failover more often than a lost segment is found by its client's timer would allow no progress.
    let every = pick(&mut rng, &[20, 200, 2000]) * MS as u64;
    let faults_end = world.now + (every as i64 * 50).min(30 * SECOND);
    for _ in 0..1 + rng.below(5) {
        let options = options(&mut rng);
        let n = if rng.chance(25) {
            let bytes = rng.below(60_000);
            world.connect_with(STREAM, options, Box::new(Stream::new(bytes)))
        } else {
            let requests = 1 + rng.below(15) as u32;
            world.connect_with(HTTP, options, Box::new(Checked::new(rng.next(), requests)))
        };
        if rng.chance(20) {
            world.clients[n].appetite = 0;
        }
    }
    let (mut next, mut steps) = (world.now + rng.below(every) as i64, 0);
    while !world.clients.iter().all(|c| c.app.done()) {
        steps += 1;
        assert!(steps < STEPS_MAX, "seed {seed}: stuck: {:?}", world.guest.server.counters());
        for client in world.clients.iter_mut().filter(|c| c.appetite < 1000) {
            // A slow reader: some hundred bytes now and then.
            client.appetite += if rng.chance(30) { 900 } else { 0 };
        }
        if world.now >= next && world.now < faults_end {
            world.step(Some(Survives::ALL[rng.below(4) as usize]));
            for _ in 0..rng.below(3) {
                world.take_over(Some(Survives::ALL[rng.below(4) as usize]));
            }
            world.failover();
            next = world.now + rng.below(every) as i64;
        }
        if !world.step(None) {
            // What is left, if anything, is what slow readers have in their own buffers.
            let slow: Vec<_> = (0..world.clients.len()).filter(|n| world.clients[*n].appetite < usize::MAX).collect();
            assert!(!slow.is_empty(), "seed {seed}: nothing more will happen");
            for n in slow {
                world.clients[n].appetite = usize::MAX;
                world.poll_client(n);
            }
        }
    }
    assert!(world.clients.iter().all(|c| c.resets == 0));
    println!("seed {seed}: {steps} steps, {} failovers, {} bytes compared", world.failovers, world.oracle.compared);
}

#[test]
fn random_clients_networks_commits_and_deaths() {
    let first = seed(4000);
    let seeds = std::env::var("SESSION_SEEDS").map_or(SEEDS, |n| n.parse().unwrap());
    for seed in first..first + seeds {
        println!(
            "seed {seed}: SESSION_SEED={seed} SESSION_SEEDS=1 cargo test -p escape-session --release --test tcp_cases random_"
        );
        one(seed);
    }
}
