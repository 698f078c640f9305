//! Small bounds of every configuration hold, and every deliberate fault is found where it is looked for first.
//!
//! All of it: `cargo run --release -p escape-model` and `cargo run --release -p escape-model -- --mutant all`.

use escape_model::explore::Limits;
use escape_model::suite::{configs, faults, found_in, hunt, run};

/// States looked at per configuration.
const GENERATED: usize = 40_000;
/// States looked at within which a fault must be found.
const GENERATED_MUTANT: usize = 3_000_000;

const fn limits(generated_max: usize) -> Limits {
    Limits { generated_max, threads: 2, progress: false }
}

#[test]
fn the_promises_hold_near_the_beginning() {
    for config in configs() {
        let report = run(config, None, limits(GENERATED)).expect("the cell becomes whole");
        if let Some(found) = report.found {
            let steps: Vec<_> = found.steps.into_iter().map(|(step, _)| step).collect();
            panic!("{config}: {:?}\n{}", found.broken, steps.join("\n"));
        }
        assert!(report.unique > 3_000, "{config} has only {} states", report.unique);
    }
}

#[test]
fn every_deliberate_fault_is_found_in_its_configuration() {
    for fault in faults() {
        let reports = hunt(fault, &[found_in(fault)], limits(GENERATED_MUTANT)).expect("the cell becomes whole");
        let found = reports.last().is_some_and(|r| r.found.is_some());
        assert!(found, "{} is not found in {}", fault.name(), found_in(fault));
    }
}

#[test]
fn an_exploration_is_the_same_every_time() {
    let count = |threads| {
        let limits = Limits { threads, ..limits(usize::MAX) };
        let report = run("kill", None, limits).expect("the cell becomes whole");
        assert!(report.complete && report.found.is_none());
        (report.unique, report.generated)
    };
    assert_eq!(count(1), count(2));
}
