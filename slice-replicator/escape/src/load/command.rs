//! What the drill asks of the running generator, and the answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use super::fault_watch::FirstByte;
use super::violation::Tally;

/// A question or order to the generator's thread.
#[derive(Debug)]
pub enum Command {
    /// Every HTTP session asks anew which node serves it, at its next turn.
    RefreshNodes,
    /// Which node serves how many sessions.
    Nodes(SyncSender<Nodes>),
    /// Tell when this many requests are in flight, at least one of them of `node`. Replaces an earlier order.
    Arm {
        /// Requests in flight, all sessions.
        in_flight: u64,
        /// The node that is about to fail.
        node: u16,
        /// Told once, when the moment is there.
        now: SyncSender<u64>,
    },
    /// The fault has happened.
    Fault {
        /// When.
        at: Instant,
        /// To which nodes; none if it is another part of the cell.
        nodes: Vec<u16>,
    },
    /// The sessions with these client addresses are lost with the group that held them, and that was reported: they are
    /// given up, and what they missed is no violation. Answered by their number.
    Excuse {
        /// The clients' ends.
        clients: Vec<SocketAddr>,
        /// How many sessions these were.
        answer: SyncSender<usize>,
    },
    /// What was seen since the last `Fault`.
    Round(SyncSender<RoundLoad>),
    /// No more requests; last check of every session, then close and return.
    Finish,
}

/// Which node serves how many HTTP sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// Sessions by node.
    pub sessions: BTreeMap<u16, usize>,
    /// Living sessions whose latest question is not answered yet.
    pub unknown: usize,
}

impl Nodes {
    /// Those of other sessions too.
    pub(super) fn add(&mut self, other: Self) {
        for (node, sessions) in other.sessions {
            *self.sessions.entry(node).or_default() += sessions;
        }
        self.unknown += other.unknown;
    }
}

/// What the clients saw of one fault. Times are microseconds of the generator's clock.
#[derive(Clone, Debug, Default)]
pub struct RoundLoad {
    /// When the fault happened.
    pub fault_us: u64,
    /// Requests sent so far in the run.
    pub requests: u64,
    /// Right replies so far in the run.
    pub replies: u64,
    /// Requests so far in the run that were due and held back.
    pub held_back: u64,
    /// Requests in flight at the fault, all sessions.
    pub in_flight: u64,
    /// Requests in flight at the fault of the failed node's sessions.
    pub in_flight_on_failed_node: u64,
    /// HTTP sessions that the failed node served at the fault.
    pub on_failed_node: usize,
    /// Those of them that another node serves now.
    pub failed_over: usize,
    /// Sessions of the failed node without a right byte since the fault.
    pub waiting: usize,
    /// First bytes of the first replies after the fault, per session of the failed node.
    pub first_bytes: Vec<Vec<FirstByte>>,
    /// The same of all other sessions.
    pub first_bytes_others: Vec<Vec<FirstByte>>,
    /// Violations so far in the run, sessions of failed nodes.
    pub of_failed_node: Tally,
    /// Violations so far in the run, other sessions.
    pub others: Tally,
}

impl RoundLoad {
    /// What other sessions saw of the same fault, on the same clock.
    pub(super) fn add(&mut self, mut other: Self) {
        self.fault_us = other.fault_us;
        self.requests += other.requests;
        self.replies += other.replies;
        self.held_back += other.held_back;
        self.in_flight += other.in_flight;
        self.in_flight_on_failed_node += other.in_flight_on_failed_node;
        self.on_failed_node += other.on_failed_node;
        self.failed_over += other.failed_over;
        self.waiting += other.waiting;
        self.first_bytes.append(&mut other.first_bytes);
        self.first_bytes_others.append(&mut other.first_bytes_others);
        self.of_failed_node = self.of_failed_node.plus(&other.of_failed_node);
        self.others = self.others.plus(&other.others);
    }
}
