//! What a drill without a file is asked to do.

use std::time::Duration;

use super::fault::Fault;
use super::must::Must;
use super::plan::{DrillPlan, Pace};
use super::strike::Strike;

/// The parts of a drill that do not concern how the cell is started.
#[derive(Clone, Debug)]
pub struct DrillOptions {
    /// Client sessions.
    pub sessions: usize,
    /// Threads that they are shared out to, at least.
    pub generators: usize,
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

/// How long a healed node is watched.
const WATCH: Duration = Duration::from_secs(1);

impl DrillOptions {
    /// The drill in full.
    pub fn plan(&self) -> DrillPlan {
        DrillPlan {
            sessions: self.sessions,
            generators: self.generators,
            requests_per_second: self.requests_per_second,
            churn_per_second: self.churn_per_second,
            stream_percent: self.stream_percent,
            seed: self.seed,
            rounds: DrillPlan::rounds_of(&[Strike::of_serving(self.fault)], self.rounds),
            pace: Pace { warm_up: self.warm_up, watch: WATCH, cool_down: self.cool_down },
            must: Must::of_plain_drill(),
        }
    }
}

/// Requests in flight at the fault: enough that some are in every stage between client and reply.
pub const IN_FLIGHT_WANTED: u64 = 20;

impl Default for DrillOptions {
    fn default() -> Self {
        Self {
            sessions: 1_000,
            generators: 1,
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
