//! What many runs came to.

use crate::counts::Counts;
use crate::outcome::Outcome;
use serde_json::{Value, json};
use std::fmt::Write;

/// Sums over runs. Adding is the same in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps of each run (messages, packets, captures, faults; not timers).
    steps: Vec<u64>,
    simulated_us: u64,
    counts: Counts,
}

impl Tally {
    /// Counts a run.
    pub fn add(&mut self, o: &Outcome) {
        self.steps.push(o.steps);
        self.simulated_us += o.simulated_us;
        self.counts += o.counts;
    }

    /// Counts what another thread has counted.
    pub fn merge(&mut self, mut other: Self) {
        self.steps.append(&mut other.steps);
        self.simulated_us += other.simulated_us;
        self.counts += other.counts;
    }

    /// Runs counted.
    pub const fn seeds(&self) -> usize {
        self.steps.len()
    }

    /// Kinds of faults that were never made.
    pub fn unmade(&self) -> Vec<&'static str> {
        self.counts.faults().filter(|(_, made)| *made == 0).map(|(kind, _)| kind.name()).collect()
    }

    /// Smallest, middle and greatest number of steps of a run.
    fn steps_of_a_run(&self) -> [u64; 3] {
        let mut sorted = self.steps.clone();
        sorted.sort_unstable();
        [0, sorted.len() / 2, sorted.len().saturating_sub(1)].map(|at| sorted.get(at).copied().unwrap_or(0))
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let [min, median, max] = self.steps_of_a_run();
        let mut json = self.counts.json();
        json.insert("seeds".to_owned(), self.seeds().into());
        json.insert("steps".to_owned(), self.steps.iter().sum::<u64>().into());
        json.insert("steps_of_a_run".to_owned(), json!({ "min": min, "median": median, "max": max }));
        json.insert("simulated_s".to_owned(), (self.simulated_us / 1_000_000).into());
        json.into()
    }

    /// For people.
    pub fn text(&self) -> String {
        let [min, median, max] = self.steps_of_a_run();
        let (seeds, steps, seconds) = (self.seeds(), self.steps.iter().sum::<u64>(), self.simulated_us / 1_000_000);
        let Counts {
            served,
            activations,
            claims,
            moved,
            leases_again,
            quarantined,
            poisonings,
            lost_groups,
            given_up,
            ..
        } = self.counts;
        let mut text = format!(
            "{seeds} seeds, {steps} steps (of a run: {min} to {max}, half of them {median} or more), {seconds} s of simulated time\n\
             {served} replies, {activations} activations, {claims} groups claimed, {lost_groups} legally lost, {moved} slices moved, \
             {leases_again} leases given again,\n\
             {poisonings} requests killed a guest, {quarantined} slices given up, {given_up} sessions given up\nfaults:"
        );
        for (kind, made) in self.counts.faults() {
            // Writing to a string does not fail.
            let _ = write!(text, " {} {made},", kind.name());
        }
        text.pop();
        text
    }
}
