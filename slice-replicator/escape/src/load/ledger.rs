//! The generator's books: replies, violations, and what a fault did to whom.

use std::collections::BTreeMap;
use std::net::SocketAddr;

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
    /// Number of the first session, where it is told.
    first_session: usize,
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
    /// Sessions that were lost with their group, as was reported.
    pub excused: u64,
    /// Scheduled sending to complete reply, µs.
    pub latency_us: Histogram<u64>,
    /// The fault that is being watched.
    pub watch: Option<FaultWatch>,
    /// Violations by the client's address; at most one per session, because it is given up then.
    given_up: BTreeMap<SocketAddr, GivenUp>,
    history: History,
}

/// A session that was given up, and how it is counted.
#[derive(Clone, Copy, Debug)]
struct GivenUp {
    session: usize,
    tally: Tally,
    of_failed_node: bool,
}

impl Ledger {
    /// Empty books of sessions whose numbers begin so.
    pub fn new(first_session: usize) -> Self {
        Self {
            first_session,
            requests: 0,
            replies: 0,
            held_back: 0,
            in_flight: 0,
            churned: 0,
            churn_held_back: 0,
            of_failed_node: Tally::default(),
            others: Tally::default(),
            described: Vec::new(),
            excused: 0,
            latency_us: latency_histogram(),
            watch: None,
            given_up: BTreeMap::new(),
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

    /// `session`, whose client has the address `client`, is given up because of `violation`, with `unanswered` requests.
    pub fn violated(&mut self, session: usize, client: Option<SocketAddr>, violation: &Violation, unanswered: u64) {
        self.in_flight = self.in_flight.saturating_sub(unanswered);
        let of_failed_node = self.watch.as_ref().is_some_and(|watch| watch.is_on_failed_node(session));
        let tally = if of_failed_node { &mut self.of_failed_node } else { &mut self.others };
        tally.add(violation);
        if let Some(client) = client {
            let mut tally = Tally::default();
            tally.add(violation);
            self.given_up.insert(client, GivenUp { session, tally, of_failed_node });
        }
        if let Some(watch) = &mut self.watch {
            watch.given_up(session);
        }
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(format!("session {}: {violation}", self.first_session + session));
        }
    }

    /// The clients of sessions that were given up, [`DESCRIBED_MAX`] at the most.
    pub fn given_up(&self) -> Vec<SocketAddr> {
        self.given_up.keys().take(DESCRIBED_MAX).copied().collect()
    }

    /// `session`, which lives, is lost with its group, with `unanswered` requests.
    pub fn excuse(&mut self, session: usize, unanswered: u64) {
        self.in_flight = self.in_flight.saturating_sub(unanswered);
        self.excused += 1;
        if let Some(watch) = &mut self.watch {
            watch.excuse(session, false);
        }
    }

    /// The session of `client`, if it was given up before it was known that it is lost with its group: what it was
    /// blamed for is taken back.
    pub fn excuse_given_up(&mut self, client: &SocketAddr) -> bool {
        let Some(GivenUp { session, tally, of_failed_node }) = self.given_up.remove(client) else { return false };
        let blamed = if of_failed_node { &mut self.of_failed_node } else { &mut self.others };
        *blamed = blamed.since(&tally);
        let told = format!("session {}: ", self.first_session + session);
        self.described.retain(|words| !words.starts_with(&told));
        self.excused += 1;
        if let Some(watch) = &mut self.watch {
            watch.excuse(session, of_failed_node);
        }
        true
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
        Self::new(0)
    }
}

/// 1 µs to one minute with two digits: about 20 KiB.
fn latency_histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used, reason = "constant arguments: 1 <= 60,000,000 / 2 and 2 digits are always accepted")]
    Histogram::new_with_bounds(1, 60_000_000, 2).expect("constant bounds")
}
