//! Everything that a drill found.

use super::evidence::Evidence;
use super::must::Must;
use super::report::Report;
use super::verdict::Verdict;
use crate::load::LoadOutcome;
use std::net::SocketAddr;

/// The end of a drill.
#[derive(Clone, Debug)]
pub struct DrillResult {
    /// One per round.
    pub rounds: Vec<Evidence>,
    /// The load as a whole.
    pub load: LoadOutcome,
    /// What had to hold.
    pub must: Must,
    /// Clients of sessions that were given up, and what the cell knew of them at the end.
    pub told_of: Vec<(SocketAddr, Vec<String>)>,
}

impl DrillResult {
    /// The judgement.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::judge(&self.rounds, &self.must);
        verdict.add_latency(self.load.latency_us.max() as f64 / 1e3, &self.must);
        verdict
    }

    /// The report for programs.
    pub fn report(&self) -> Report {
        let verdict = if self.verdict().is_pass() { "pass" } else { "fail" };
        Report { verdict, ..Report::of(&self.rounds, &self.must) }
    }
}
