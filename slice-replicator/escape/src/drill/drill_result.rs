//! Everything that a drill found.

use super::evidence::Evidence;
use super::report::Report;
use crate::load::LoadOutcome;

/// The end of a drill.
#[derive(Clone, Debug)]
pub struct DrillResult {
    /// One per fault.
    pub rounds: Vec<Evidence>,
    /// The load as a whole.
    pub load: LoadOutcome,
}

impl DrillResult {
    /// The report for programs.
    pub fn report(&self) -> Report {
        Report::of(&self.rounds)
    }
}
