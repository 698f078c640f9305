//! A drill as it is held: the load, the faults in rounds, and what must hold.

use std::time::Duration;

use super::must::Must;
use super::options::IN_FLIGHT_WANTED;
use super::strike::Strike;
use super::then::Then;

/// Everything that a drill needs to know, whether from a file or from the command line.
#[derive(Clone, Debug)]
pub struct DrillPlan {
    /// Client sessions.
    pub sessions: usize,
    /// Threads that they are shared out to, at least.
    pub generators: usize,
    /// Requests per second and session.
    pub requests_per_second: f64,
    /// Short sessions per second beside the others.
    pub churn_per_second: f64,
    /// How many of 100 sessions are byte streams.
    pub stream_percent: u8,
    /// Seed of requests, nodes and moments.
    pub seed: u64,
    /// The faults; those of a round are judged together.
    pub rounds: Vec<Vec<Strike>>,
    /// How long it waits where nothing else says so.
    pub pace: Pace,
    /// What must hold.
    pub must: Must,
}

/// Times that a drill gives itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Load before the first fault.
    pub warm_up: Duration,
    /// How long a healed node is watched: an old owner that is awake again sends at once, or at its next timer.
    pub watch: Duration,
    /// Load after each round, once all is well again.
    pub cool_down: Duration,
}

impl DrillPlan {
    /// Requests that must be in flight when a fault happens, for a run that can have so many.
    pub fn wanted_in_flight(&self) -> u64 {
        (self.sessions as u64 / 4).clamp(1, IN_FLIGHT_WANTED)
    }

    /// A sequence of faults, so many times, cut into rounds.
    pub fn rounds_of(sequence: &[Strike], repeat: u32) -> Vec<Vec<Strike>> {
        let once: Vec<&[Strike]> = sequence.split_inclusive(|strike| strike.then == Then::Protected).collect();
        (0..repeat).flat_map(|_| once.iter().map(|round| round.to_vec())).collect()
    }
}
