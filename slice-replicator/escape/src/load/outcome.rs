//! What a run came to.

use std::net::SocketAddr;

use hdrhistogram::Histogram;

use super::violation::Tally;

/// The end of a run.
#[derive(Clone, Debug)]
pub struct LoadOutcome {
    /// Sessions of the run.
    pub sessions: usize,
    /// Requests sent.
    pub requests: u64,
    /// Replies that were right.
    pub replies: u64,
    /// Requests that were due but held back because their session had too many unanswered.
    pub held_back: u64,
    /// Short sessions opened.
    pub churned: u64,
    /// Short sessions held back because too many were open.
    pub churn_held_back: u64,
    /// Violations, sessions of failed nodes.
    pub of_failed_node: Tally,
    /// Violations, other sessions.
    pub others: Tally,
    /// Sessions that were lost with their group, as was reported.
    pub excused: u64,
    /// The first violations in words.
    pub described: Vec<String>,
    /// Clients' addresses of the first sessions that were given up; 100 at the most.
    pub given_up: Vec<SocketAddr>,
    /// Scheduled sending to complete reply, µs.
    pub latency_us: Histogram<u64>,
    /// Processor time of the generator's thread, µs.
    pub cpu_us: u64,
}

impl LoadOutcome {
    /// What other sessions of the same run came to.
    pub(super) fn add(&mut self, mut other: Self) {
        self.sessions += other.sessions;
        self.requests += other.requests;
        self.replies += other.replies;
        self.held_back += other.held_back;
        self.churned += other.churned;
        self.churn_held_back += other.churn_held_back;
        self.of_failed_node = self.of_failed_node.plus(&other.of_failed_node);
        self.others = self.others.plus(&other.others);
        self.excused += other.excused;
        self.described.append(&mut other.described);
        self.given_up.append(&mut other.given_up);
        self.latency_us += &other.latency_us;
        self.cpu_us += other.cpu_us;
    }

    /// All violations.
    pub fn tally(&self) -> Tally {
        self.of_failed_node.plus(&self.others)
    }

    /// Processor time of the generator per request, µs.
    pub fn cpu_us_per_request(&self) -> f64 {
        self.cpu_us as f64 / self.requests.max(1) as f64
    }
}
