//! What one round of a drill brought to light, before anyone judges it.

use super::cell_trait::Reprotection;
use super::quantiles::Quantiles;
use super::timeline::{EventKind, Step, Timeline};
use crate::load::{FirstByte, RoundLoad, Tally};

/// One fault and its consequences.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The node that failed.
    pub node: u16,
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
    /// Milliseconds from the first round's fault to this one's.
    pub offset_ms: f64,
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
            self.timeline.add(Step { t_ms, event: EventKind::FirstByte, node: self.node });
        }
    }

    /// Of each of the failed node's sessions the first byte since there was a new owner: what came between the fault
    /// and that was already under way and would hide the gap.
    fn first_of_new_owner(&self) -> Vec<FirstByte> {
        let raised = self.timeline.steps.iter().find(|step| step.event == EventKind::EpochRaised);
        let from_us = self.load.fault_us + raised.map_or(0, |step| us_of(step.t_ms));
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
