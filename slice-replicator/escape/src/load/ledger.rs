//! The generator's books: replies, violations, and what a fault did to whom.

use hdrhistogram::Histogram;

use super::fault_watch::FaultWatch;
use super::history::History;
use super::http_session::Completion;
use super::violation::{Tally, Violation};

/// Violations described in words; the rest are only counted.
pub const DESCRIBED_MAX: usize = 100;

/// Everything that is counted.
#[derive(Debug)]
pub struct Ledger {
    /// Requests sent.
    pub requests: u64,
    /// Replies that were right.
    pub replies: u64,
    /// Requests that were due but not sent, because the session had too many unanswered.
    pub held_back: u64,
    /// Requests sent and not answered.
    pub in_flight: u64,
    /// Short sessions opened, and those not opened because too many were open.
    pub churned: u64,
    /// Short sessions not opened because the bound was reached.
    pub churn_held_back: u64,
    /// Violations of sessions that the failed node of the latest fault served.
    pub of_failed_node: Tally,
    /// Violations of all other sessions, and all before the first fault.
    pub others: Tally,
    /// The first violations in words; at most [`DESCRIBED_MAX`].
    pub described: Vec<String>,
    /// Scheduled sending to complete reply, µs.
    pub latency_us: Histogram<u64>,
    /// The fault that is being watched.
    pub watch: Option<FaultWatch>,
    history: History,
}

impl Ledger {
    /// Empty books.
    pub fn new() -> Self {
        Self {
            requests: 0,
            replies: 0,
            held_back: 0,
            in_flight: 0,
            churned: 0,
            churn_held_back: 0,
            of_failed_node: Tally::default(),
            others: Tally::default(),
            described: Vec::new(),
            latency_us: latency_histogram(),
            watch: None,
            history: History::default(),
        }
    }

    /// A right reply of `session`.
    pub fn completed(&mut self, session: usize, completion: Completion) {
        self.replies += 1;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.latency_us.saturating_record(completion.done_us.saturating_sub(completion.scheduled_us));
        if let Some(watch) = &mut self.watch {
            watch.replied(session, &completion);
        }
        self.history.push(session, completion);
    }

    /// `session` is given up because of `violation`, with `unanswered` requests.
    pub fn violated(&mut self, session: usize, violation: &Violation, unanswered: u64) {
        self.in_flight = self.in_flight.saturating_sub(unanswered);
        let of_failed_node = self.watch.as_ref().is_some_and(|watch| watch.is_on_failed_node(session));
        let tally = if of_failed_node { &mut self.of_failed_node } else { &mut self.others };
        tally.add(violation);
        if let Some(watch) = &mut self.watch {
            watch.given_up(session);
        }
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(format!("session {session}: {violation}"));
        }
    }

    /// Begins to watch a fault, from the replies that came since it happened.
    pub fn begin_watch(&mut self, mut watch: FaultWatch) {
        for (session, completion) in self.history.done_after(watch.fault_us()) {
            watch.count_in_flight(session, completion.sent_us, Some(completion.done_us));
            watch.replied(session, &completion);
        }
        self.watch = Some(watch);
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

/// 1 µs to one minute with two digits: about 20 KiB.
fn latency_histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used, reason = "constant arguments: 1 <= 60,000,000 / 2 and 2 digits are always accepted")]
    Histogram::new_with_bounds(1, 60_000_000, 2).expect("constant bounds")
}
