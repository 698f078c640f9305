//! What a drill is asked to do.

use std::time::Duration;

use super::fault::Fault;

/// The parts of a drill that do not concern how the cell is started.
#[derive(Clone, Debug)]
pub struct DrillOptions {
    /// Client sessions.
    pub sessions: usize,
    /// What happens to a node.
    pub fault: Fault,
    /// How many faults, one after the other.
    pub rounds: u32,
    /// Seed of requests, node and moment of each fault.
    pub seed: u64,
    /// Requests per second and session.
    pub requests_per_second: f64,
    /// Short sessions per second beside the others.
    pub churn_per_second: f64,
    /// How many of 100 sessions are byte streams.
    pub stream_percent: u8,
    /// Load before the first fault.
    pub warm_up: Duration,
    /// Load after each fault, once all is well again.
    pub cool_down: Duration,
}

impl DrillOptions {
    /// Requests that must be in flight when the fault happens, for a run that can have so many.
    pub fn wanted_in_flight(&self) -> u64 {
        (self.sessions as u64 / 4).clamp(1, IN_FLIGHT_WANTED)
    }
}

/// Requests in flight at the fault: enough that some are in every stage between client and reply.
pub const IN_FLIGHT_WANTED: u64 = 20;

impl Default for DrillOptions {
    fn default() -> Self {
        Self {
            sessions: 1_000,
            fault: Fault::Kill,
            rounds: 1,
            seed: 1,
            requests_per_second: 5.0,
            churn_per_second: 0.0,
            stream_percent: 10,
            warm_up: Duration::from_secs(3),
            cool_down: Duration::from_secs(3),
        }
    }
}
