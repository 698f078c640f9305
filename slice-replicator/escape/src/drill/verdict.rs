//! The judgement: which promise was kept, which was broken, by which numbers.

use std::fmt;

use super::evidence::Evidence;
use super::quantiles::Quantiles;
use crate::load::Tally;

/// Goal for the clients' wait after detection, half of the sessions.
pub const GAP_GOAL_P50_MS: f64 = 10.0;
/// Goal for the clients' wait after detection, 99 of 100 sessions.
pub const GAP_GOAL_P99_MS: f64 = 40.0;
/// A longer wait fails the drill: a Linux client's shortest retransmission timeout is 200 ms, so beyond this it was
/// the client's TCP that repaired the connection, not the failover.
pub const GAP_LIMIT_P50_MS: f64 = 150.0;

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// No client sees output whose state would be lost.
    P1,
    /// No two owners release different output.
    P2,
    /// No request lost, doubled or reordered; no byte wrong.
    P3,
    /// No connection reset.
    P4,
    /// A failure does not touch other slices.
    P5,
    /// Every session of the failed node is served by another one.
    FailedOver,
    /// Every slice has a standby again.
    Protected,
    /// The wait was no retransmission timeout.
    Gap,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P1 => "P1 no output without its state",
            Self::P2 => "P2 one owner",
            Self::P3 => "P3 nothing lost, doubled, reordered",
            Self::P4 => "P4 no reset",
            Self::P5 => "P5 others untouched",
            Self::FailedOver => "all sessions failed over",
            Self::Protected => "protected again",
            Self::Gap => "no retransmission timeout",
        })
    }
}

/// One promise and what was found about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which.
    pub promise: Promise,
    /// Whether it was kept.
    pub kept: bool,
    /// The numbers.
    pub numbers: String,
}

/// The judgement of a set of rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// One per promise.
    pub findings: Vec<Finding>,
    /// Wait after detection.
    pub gap: Quantiles,
    /// Whether the goal for the wait was met. Missing it is said, but breaks no promise.
    pub gap_goal_met: bool,
}

/// A wait after detection from which on a client's own retransmission timer (200 ms or more after its first try, which
/// may lie before the detection) must be suspected.
const RETRANSMISSION_US: u64 = 180_000;
/// One session in so many may wait that long (a machine with two cores has hiccups of its own); and one in any case.
const RESENT_TOLERATED: usize = 40;

impl Verdict {
    /// Judges `rounds`. Nothing to judge is no pass.
    pub fn of(rounds: &[Evidence]) -> Self {
        let gap = Quantiles::of_us(rounds.iter().flat_map(Evidence::gaps_after_detection_us).collect());
        let findings =
            vec![p1(rounds), p2(rounds), p3(rounds), p4(rounds), p5(rounds), failed_over(rounds), protected(rounds)];
        let waits: Vec<u64> = rounds.iter().flat_map(Evidence::gaps_after_detection_us).collect();
        let resent = waits.iter().filter(|us| **us >= RETRANSMISSION_US).count();
        let tolerated = (waits.len() / RESENT_TOLERATED).max(1);
        let kept = gap.p50 <= GAP_LIMIT_P50_MS && resent <= tolerated;
        let numbers = format!(
            "wait after detection p50 {:.1} ms, limit {GAP_LIMIT_P50_MS} ms; {resent} of {} sessions waited {} ms or more",
            gap.p50,
            waits.len(),
            RETRANSMISSION_US / 1000
        );
        let findings = [findings, vec![Finding { promise: Promise::Gap, kept, numbers }]].concat();
        Self { findings, gap, gap_goal_met: gap.p50 <= GAP_GOAL_P50_MS && gap.p99 <= GAP_GOAL_P99_MS }
    }

    /// Whether every promise was kept.
    pub fn is_pass(&self) -> bool {
        self.findings.iter().all(|finding| finding.kept)
    }
}

fn sum(rounds: &[Evidence], of: fn(&Evidence) -> Tally) -> Tally {
    rounds.iter().fold(Tally::default(), |sum, round| sum.plus(&of(round)))
}

/// A client has seen a reply whose state is gone exactly when a later reply, or none, disagrees with it.
fn p1(rounds: &[Evidence]) -> Finding {
    let tally = sum(rounds, |round| round.of_failed_node);
    let kept = tally.lost == 0 && tally.wrong_bytes == 0;
    let numbers =
        format!("failed node's sessions: {} requests lost or forgotten, {} wrong bytes", tally.lost, tally.wrong_bytes);
    Finding { promise: Promise::P1, kept, numbers }
}

fn p2(rounds: &[Evidence]) -> Finding {
    let zombie_frames: u64 = rounds.iter().map(|round| round.zombie_frames).sum();
    let tally = sum(rounds, |round| round.of_failed_node);
    let kept = zombie_frames == 0 && tally.duplicated == 0 && tally.wrong_bytes == 0;
    let numbers = format!(
        "{zombie_frames} frames of an old owner passed the fabric after the flip, {} requests doubled",
        tally.duplicated
    );
    Finding { promise: Promise::P2, kept, numbers }
}

fn p3(rounds: &[Evidence]) -> Finding {
    let tally = sum(rounds, Evidence::tally);
    let Tally { lost, duplicated, reordered, wrong_bytes, .. } = tally;
    let kept = lost + duplicated + reordered + wrong_bytes == 0;
    let numbers = format!("{lost} lost, {duplicated} doubled, {reordered} reordered, {wrong_bytes} wrong bytes");
    Finding { promise: Promise::P3, kept, numbers }
}

fn p4(rounds: &[Evidence]) -> Finding {
    let resets = sum(rounds, Evidence::tally).resets;
    let early: u64 = rounds.iter().map(|round| round.early_frames).sum();
    let numbers = format!("{resets} connections reset or ended, {early} frames came to a guest before its gate");
    Finding { promise: Promise::P4, kept: resets == 0 && early == 0, numbers }
}

fn p5(rounds: &[Evidence]) -> Finding {
    let tally = sum(rounds, |round| round.others);
    let gaps = Quantiles::of_us(rounds.iter().flat_map(Evidence::gaps_others_us).collect());
    let kept = tally.is_clean() && gaps.p50 <= GAP_LIMIT_P50_MS;
    let numbers = format!(
        "other sessions: {}, wait p50 {:.1} ms, p99 {:.1} ms",
        if tally.is_clean() { "nothing wrong".to_owned() } else { format!("{tally:?}") },
        gaps.p50,
        gaps.p99
    );
    Finding { promise: Promise::P5, kept, numbers }
}

fn failed_over(rounds: &[Evidence]) -> Finding {
    let served: usize = rounds.iter().map(|round| round.load.on_failed_node).sum();
    let moved: usize = rounds.iter().map(|round| round.load.failed_over).sum();
    let waiting: usize = rounds.iter().map(|round| round.load.waiting).sum();
    let detected = rounds.iter().all(|round| round.timeline.detect_ms.is_some());
    let kept = !rounds.is_empty() && served > 0 && moved == served && waiting == 0 && detected;
    let seen = if detected { "" } else { ", no failover seen" };
    let numbers = format!("{moved} of the failed node's {served} sessions moved, {waiting} still without a byte{seen}");
    Finding { promise: Promise::FailedOver, kept, numbers }
}

fn protected(rounds: &[Evidence]) -> Finding {
    let missing = rounds.iter().filter(|round| round.reprotection.is_none()).count();
    let slices: u64 = rounds.iter().filter_map(|round| round.reprotection).map(|(found, _)| found.slices).sum();
    let numbers = match missing {
        0 => format!("{slices} slices got a new standby"),
        _ => format!("slices without a standby at the end of {missing} round(s)"),
    };
    Finding { promise: Promise::Protected, kept: missing == 0, numbers }
}
