//! How soon each deliberate fault is found.

use crate::batch::{Batch, BatchResult, Found};
use crate::outcome::Outcome;
use crate::world::Plan;
use escape_engine::Mutant;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The search for one deliberate fault.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The fault.
    pub mutant: Mutant,
    /// The run that broke a promise; `None`: no seed did.
    pub found: Option<Outcome>,
    /// Time until then.
    pub took: Duration,
}

impl Hunt {
    /// Looks for a deliberate fault in so many seeds, of so many steps each.
    pub fn run(mutant: Mutant, seeds: u64, steps: u64, threads: usize) -> Self {
        let begun = Instant::now();
        let plan = |seed| Plan { seed, steps, broken: Some(mutant), trace: false };
        let batch = Batch { seeds: 1..seeds + 1, threads, twice: false };
        let BatchResult { found, .. } = batch.run(&plan, &|_| {});
        let found = match found {
            Some(Found::Violation(outcome)) => Some(*outcome),
            _ => None,
        };
        Self { mutant, found, took: begun.elapsed() }
    }

    /// Head of the table.
    pub fn head() -> String {
        let (mutant, steps, simulated) = ("deliberate fault", "steps", "simulated ms");
        format!("{mutant:<24} {:>5} {steps:>7} {simulated:>13} {:>8}  promise", "seed", "ms")
    }

    /// Its line.
    pub fn line(&self) -> String {
        let (name, ms) = (self.mutant.name(), self.took.as_millis());
        let Some(o) = &self.found else { return format!("{name:<24} NOT FOUND after {ms} ms") };
        let promise = o.violation.as_ref().map_or("", |v| v.invariant);
        let simulated = o.simulated_us / 1_000;
        format!("{name:<24} {:>5} {:>7} {simulated:>13} {ms:>8}  {promise}", o.seed, o.steps)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let o = self.found.as_ref();
        json!({
            "mutant": self.mutant.name(), "found": o.is_some(), "seed": o.map(|o| o.seed), "steps": o.map(|o| o.steps),
            "simulated_us": o.map(|o| o.simulated_us), "ms": self.took.as_millis(),
            "promise": o.and_then(|o| o.violation.as_ref()).map(|v| v.invariant),
        })
    }
}
