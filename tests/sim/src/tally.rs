//! What many runs came to.

use crate::fault_kind::FaultKind;
use crate::outcome::Outcome;
use serde_json::{Value, json};

/// Sums over runs. Adding is the same in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps of each run (messages, packets, captures, faults; not timers).
    steps: Vec<u64>,
    simulated_us: u64,
    served: u64,
    releases: u64,
    activations: u64,
    claims: u64,
    leases_again: u64,
    quarantined: u64,
    poisonings: u64,
    lost_groups: u64,
    given_up: u64,
    faults: [u64; FaultKind::COUNT],
}

impl Tally {
    /// Counts a run.
    pub fn add(&mut self, o: &Outcome) {
        self.steps.push(o.steps);
        self.simulated_us += o.simulated_us;
        self.served += o.served;
        self.releases += o.releases;
        self.activations += o.activations;
        self.claims += o.claims;
        self.leases_again += o.leases_again;
        self.quarantined += o.quarantined;
        self.poisonings += o.poisonings;
        self.lost_groups += o.lost_groups;
        self.given_up += o.given_up;
        for (sum, made) in self.faults.iter_mut().zip(o.faults) {
            *sum += made;
        }
    }

    /// Counts what another thread has counted.
    pub fn merge(&mut self, mut other: Self) {
        self.steps.append(&mut other.steps);
        self.simulated_us += other.simulated_us;
        self.served += other.served;
        self.releases += other.releases;
        self.activations += other.activations;
        self.claims += other.claims;
        self.leases_again += other.leases_again;
        self.quarantined += other.quarantined;
        self.poisonings += other.poisonings;
        self.lost_groups += other.lost_groups;
        self.given_up += other.given_up;
        for (sum, made) in self.faults.iter_mut().zip(other.faults) {
            *sum += made;
        }
    }

    /// Runs counted.
    pub const fn seeds(&self) -> usize {
        self.steps.len()
    }

    /// Kinds of faults that were never made.
    pub fn unmade(&self) -> Vec<&'static str> {
        let kinds = FaultKind::ALL.into_iter().zip(self.faults);
        kinds.filter(|(_, made)| *made == 0).map(|(kind, _)| kind.name()).collect()
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
        let faults: serde_json::Map<_, _> = FaultKind::ALL
            .into_iter()
            .zip(self.faults)
            .map(|(kind, made)| (kind.name().to_owned(), made.into()))
            .collect();
        json!({
            "seeds": self.seeds(), "steps": self.steps.iter().sum::<u64>(),
            "steps_of_a_run": { "min": min, "median": median, "max": max },
            "simulated_s": self.simulated_us / 1_000_000,
            "served": self.served, "releases": self.releases, "activations": self.activations, "claims": self.claims,
            "leases_again": self.leases_again, "quarantined": self.quarantined, "poisonings": self.poisonings,
            "lost_groups": self.lost_groups, "given_up": self.given_up, "faults": faults,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let [min, median, max] = self.steps_of_a_run();
        let steps = self.steps.iter().sum::<u64>();
        let mut text = format!(
            "{} seeds, {steps} steps (of a run: {min} to {max}, half of them {median} or more), {} s of simulated time\n\
             {} replies, {} activations, {} groups claimed, {} legally lost, {} leases given again,\n\
             {} requests killed a guest, {} slices given up, {} sessions given up\nfaults:",
            self.seeds(),
            self.simulated_us / 1_000_000,
            self.served,
            self.activations,
            self.claims,
            self.lost_groups,
            self.leases_again,
            self.poisonings,
            self.quarantined,
            self.given_up
        );
        for (kind, made) in FaultKind::ALL.into_iter().zip(self.faults) {
            text.push_str(&format!(" {} {made},", kind.name()));
        }
        text.pop();
        text
    }
}
