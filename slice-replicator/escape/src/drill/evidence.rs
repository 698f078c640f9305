//! What one round of a drill brought to light, before anyone judges it.

use super::cell_trait::Reprotection;
use super::injury::Injury;
use super::quantiles::Quantiles;
use super::timeline::{EventKind, Step, Timeline};
use crate::load::{FirstByte, RoundLoad, Tally};

/// One fault and its consequences.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What was done to the cell, in order.
    pub injuries: Vec<Injury>,
    /// Whether a failover must have followed: a node failed, and no file says that it must not.
    pub failover_expected: bool,
    /// Sessions of the run.
    pub sessions: usize,
    /// What the clients saw.
    pub load: RoundLoad,
    /// Requests sent in this round.
    pub requests: u64,
    /// Violations found in this round, sessions of the failed node.
    pub of_failed_node: Tally,
    /// Violations found in this round, other sessions.
    pub others: Tally,
    /// What the cell noticed.
    pub timeline: Timeline,
    /// Frames that the failed node held when the fault was decided.
    pub held_frames: u64,
    /// Whether enough requests were in flight when the fault was decided.
    pub moment_found: bool,
    /// Frames of the old owner that passed the fabric after the flip, in this round.
    pub zombie_frames: u64,
    /// Frames that came to a new owner before its gate was closed, in this round.
    pub early_frames: u64,
    /// The new protection and how long it took, ms since the fault; none if it was not there in time.
    pub reprotection: Option<(Reprotection, f64)>,
    /// Nodes that were declared dead without a fault of theirs.
    pub false_deaths: Vec<u16>,
    /// Slices that nodes gave up, in words: what says why a session was lost.
    pub quarantined: Vec<String>,
    /// Right replies and requests due while a fault lasted that takes no node; none if there was no such fault.
    pub achieved: Option<Achieved>,
    /// Groups of which no copy was left, and the sessions that were lost with them.
    pub lost: Lost,
    /// Groups that went on from the memory of a process that had been declared dead.
    pub claimed: usize,
    /// Milliseconds from the first round's fault to this one's.
    pub offset_ms: f64,
}

/// What the load achieved in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Achieved {
    /// Right replies.
    pub replies: u64,
    /// Requests due.
    pub offered: u64,
}

impl Achieved {
    /// The least ratio of all rounds that have one.
    pub fn least(rounds: &[Evidence]) -> Option<f64> {
        rounds.iter().filter_map(|round| round.achieved).map(|span| span.ratio()).reduce(f64::min)
    }

    /// Right replies per request due; 1 where nothing was due.
    pub fn ratio(&self) -> f64 {
        if self.offered == 0 { 1.0 } else { self.replies as f64 / self.offered as f64 }
    }
}

/// What was reported as lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Groups.
    pub groups: usize,
    /// Sessions that had their slice in one of them.
    pub sessions: usize,
}

impl Evidence {
    /// All violations of this round.
    pub fn tally(&self) -> Tally {
        self.of_failed_node.plus(&self.others)
    }

    /// Waits of the failed node's clients from the later of fault and scheduled sending to the first right byte, µs.
    pub fn gaps_us(&self) -> Vec<u64> {
        gaps_us(&self.first_of_new_owner(), self.load.fault_us)
    }

    /// The same, from the later of detection and scheduled sending: what the failover itself takes. Empty when nothing
    /// was detected.
    pub fn gaps_after_detection_us(&self) -> Vec<u64> {
        let Some(detect_ms) = self.timeline.detect_ms else { return Vec::new() };
        gaps_us(&self.first_of_new_owner(), self.load.fault_us + us_of(detect_ms))
    }

    /// Waits of all other clients from the later of fault and scheduled sending, µs.
    pub fn gaps_others_us(&self) -> Vec<u64> {
        let first: Vec<FirstByte> =
            self.load.first_bytes_others.iter().filter_map(|all| all.first().copied()).collect();
        gaps_us(&first, self.load.fault_us)
    }

    /// Waits of only those of the failed node's clients whose request was due before the first of them was served
    /// again: the others hardly noticed anything.
    pub fn gaps_of_waiting(&self) -> (usize, Quantiles) {
        let first = self.first_of_new_owner();
        let Some(served_us) = first.iter().map(|first| first.at_us).min() else { return (0, Quantiles::default()) };
        let waiting: Vec<FirstByte> = first.into_iter().filter(|first| first.scheduled_us <= served_us).collect();
        (waiting.len(), Quantiles::of_us(gaps_us(&waiting, self.load.fault_us)))
    }

    /// Puts the clients' first byte into the timeline.
    pub fn add_first_byte(&mut self) {
        if let Some(at_us) = self.first_of_new_owner().iter().map(|first| first.at_us).min() {
            let t_ms = at_us.saturating_sub(self.load.fault_us) as f64 / 1e3;
            let node = self.injuries.iter().find_map(Injury::failed_node);
            self.timeline.add(Step { t_ms, event: EventKind::FirstByte, node });
        }
    }

    /// Of each of the failed node's sessions the first byte since there was a new owner: what came between the fault
    /// and that was already under way and would hide the gap.
    fn first_of_new_owner(&self) -> Vec<FirstByte> {
        let from_us = self.load.fault_us + self.timeline.raised_ms().map_or(0, us_of);
        let first = |all: &Vec<FirstByte>| all.iter().find(|first| first.at_us >= from_us).copied();
        self.load.first_bytes.iter().filter_map(first).collect()
    }
}

fn us_of(ms: f64) -> u64 {
    (ms * 1e3) as u64
}

fn gaps_us(first_bytes: &[FirstByte], from_us: u64) -> Vec<u64> {
    first_bytes.iter().map(|first| first.gap_us(from_us)).collect()
}
