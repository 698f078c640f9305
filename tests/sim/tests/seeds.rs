//! Seeds of the simulator: the protocol's promises hold, and every deliberate fault is found.
//!
//! More of the same: `cargo run --release -p escape-sim -- --seeds 2000`.

use escape_engine::Mutant;
use escape_sim::{Outcome, Plan, run};

/// Seeds without a fault in the machines.
const SEEDS: u64 = 200;
/// Seeds after which a deliberate fault must have been found.
const MUTANT_SEEDS_MAX: u64 = 300;
const STEPS: u64 = 2_000;

fn plan(seed: u64, broken: Option<Mutant>) -> Plan {
    Plan { seed, steps: STEPS, broken, trace: false }
}

fn complain(o: &Outcome) {
    if let Some(v) = &o.violation {
        panic!(
            "{}: {}\nreplay with: cargo run --release -p escape-sim -- --seed {} --events {STEPS} --trace",
            v.invariant, v.detail, o.seed
        );
    }
}

#[test]
fn the_invariants_hold() {
    let (mut served, mut activations, mut claims, mut again) = (0, 0, 0, 0);
    let (mut quarantined, mut poisonings) = (0, 0);
    for seed in 1..=SEEDS {
        let outcome = run(plan(seed, None));
        complain(&outcome);
        served += outcome.served;
        activations += outcome.activations;
        claims += outcome.claims;
        again += outcome.leases_again;
        quarantined += outcome.quarantined;
        poisonings += outcome.poisonings;
    }
    // The runs must have been worth something.
    assert!(served > 100_000, "only {served} replies");
    assert!(quarantined > 100, "only {quarantined} slices given up");
    assert!(poisonings > 100, "only {poisonings} requests that kill a guest");
    assert!(again > 50, "only {again} leases given again");
    assert!(claims > 50, "only {claims} groups claimed");
    assert!(activations > 400, "only {activations} activations with slices");
}

#[test]
fn a_seed_is_one_run() {
    for seed in [1, 77, 4_711] {
        let (a, b) = (run(plan(seed, None)), run(plan(seed, None)));
        assert_eq!(a, b, "seed {seed} ran differently the second time");
        assert_ne!(a.hash, run(plan(seed + 1, None)).hash);
    }
}

#[test]
fn every_deliberate_fault_is_found() {
    let mut missed = Vec::new();
    println!("{:<18} {:>5} {:>7}  invariant", "mutant", "seed", "steps");
    for mutant in Mutant::ALL {
        let found = (1..=MUTANT_SEEDS_MAX).map(|seed| run(plan(seed, Some(mutant)))).find(|o| o.violation.is_some());
        match found {
            Some(o) => {
                let invariant = o.violation.map_or("", |v| v.invariant);
                println!("{:<18} {:>5} {:>7}  {invariant}", mutant.name(), o.seed, o.steps);
            }
            None => missed.push(mutant.name()),
        }
    }
    assert!(missed.is_empty(), "not found in {MUTANT_SEEDS_MAX} seeds: {}", missed.join(", "));
}
