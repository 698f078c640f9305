//! Seeds of the simulator: the protocol's promises hold, and every deliberate fault is found.
//!
//! More of the same: `cargo run --release -p escape-sim -- --seeds 2000`.

use escape_engine::Mutant;
use escape_sim::{Batch, BatchResult, Found, Hunt, Plan, run};

/// Seeds without a fault in the machines.
const SEEDS: u64 = 400;
/// Seeds after which a deliberate fault must have been found.
const MUTANT_SEEDS_MAX: u64 = 1_000;
const STEPS: u64 = 2_000;

fn plan(seed: u64) -> Plan {
    Plan { seed, steps: STEPS, broken: None, trace: false }
}

fn batch(seeds: std::ops::Range<u64>, threads: usize, twice: bool) -> BatchResult {
    let result = Batch { seeds, threads, twice }.run(&plan, &|_| {});
    match &result.found {
        Some(Found::Violation(o)) => panic!(
            "{:?}\nreplay with: cargo run --release -p escape-sim -- --seed {} --events {STEPS} --trace",
            o.violation, o.seed
        ),
        Some(Found::Unequal { seed, .. }) => panic!("seed {seed} ran differently the second time"),
        None => result,
    }
}

#[test]
fn the_invariants_hold() {
    let BatchResult { tally, .. } = batch(1..SEEDS + 1, 2, false);
    // The runs must have been worth something.
    let told = tally.json();
    let least = |what: &str, least: u64| {
        let found = told[what].as_u64().unwrap_or(0);
        assert!(found > least, "only {found} {what}: {told}");
    };
    least("served", 100_000);
    least("quarantined", 100);
    least("poisonings", 100);
    least("leases_again", 50);
    least("claims", 50);
    least("activations", 400);
    assert!(told["steps_of_a_run"]["min"].as_u64().is_some_and(|min| min >= STEPS), "{told}");
    assert!(tally.unmade().is_empty(), "never made: {:?}", tally.unmade());
}

#[test]
fn a_seed_is_one_run() {
    batch(1..40, 2, true);
    assert_ne!(run(plan(1)).hash, run(plan(2)).hash);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    assert_eq!(batch(1..50, 1, false).tally.json(), batch(1..50, 3, false).tally.json());
    let broken = |seed| Plan { broken: Some(Mutant::StandbyAmnesia), ..plan(seed) };
    let found = |threads| Batch { seeds: 1..200, threads, twice: false }.run(&broken, &|_| {}).found;
    assert_eq!(found(1), found(3));
    assert!(matches!(found(2), Some(Found::Violation(_))));
}

#[test]
fn every_deliberate_fault_is_found() {
    println!("{}", Hunt::head());
    let hunts: Vec<Hunt> = Mutant::ALL.into_iter().map(|m| Hunt::run(m, MUTANT_SEEDS_MAX, STEPS, 2)).collect();
    hunts.iter().for_each(|hunt| println!("{}", hunt.line()));
    let missed: Vec<_> = hunts.iter().filter(|h| h.found.is_none()).map(|h| h.mutant.name()).collect();
    assert!(missed.is_empty(), "not found in {MUTANT_SEEDS_MAX} seeds: {}", missed.join(", "));
}
