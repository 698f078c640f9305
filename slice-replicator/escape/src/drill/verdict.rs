//! The judgement: which promise was kept, which was broken, by which numbers.

use std::fmt;

use serde::{Serialize, Serializer};

use super::evidence::{Achieved, Evidence};
use super::must::Must;
use super::quantiles::Quantiles;
use crate::load::Tally;

/// Goal for the clients' wait after detection, half of the sessions.
pub const GAP_GOAL_P50_MS: f64 = 10.0;
/// Goal for the clients' wait after detection, 99 of 100 sessions.
pub const GAP_GOAL_P99_MS: f64 = 40.0;
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
    /// The wait was no retransmission timeout; or not longer than a drill's file allows.
    Gap,
    /// Nothing failed over that had no fault.
    NoFailover,
    /// What has no copy left is reported as lost, and nothing else is.
    Lost,
    /// What was only paused or cut off goes on from its own memory.
    Claimed,
    /// The load went on while a fault lasted.
    Achieved,
    /// No request took too long.
    Latency,
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
            Self::NoFailover => "no failover without a fault",
            Self::Lost => "what is lost is reported",
            Self::Claimed => "what was only paused goes on",
            Self::Achieved => "the load went on",
            Self::Latency => "no request took too long",
        })
    }
}

impl Serialize for Promise {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One promise and what was found about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// Judges `rounds` of a drill without a file. Nothing to judge is no pass.
    pub fn of(rounds: &[Evidence]) -> Self {
        Self::judge(rounds, &Must::of_plain_drill())
    }

    /// Judges `rounds` by what `must` hold. Nothing to judge is no pass.
    pub fn judge(rounds: &[Evidence], must: &Must) -> Self {
        let waits: Vec<u64> = rounds.iter().flat_map(Evidence::gaps_after_detection_us).collect();
        let gap = Quantiles::of_us(waits.clone());
        let mut findings = vec![p1(rounds), p2(rounds), p3(rounds), p4(rounds), p5(rounds, must.others_wait_p50_ms)];
        // A drill without anything to take over is judged by other things.
        if rounds.is_empty() || rounds.iter().any(|round| round.failover_expected) {
            findings.push(failed_over(rounds, must));
        }
        findings.push(protected(rounds));
        if rounds.is_empty() || rounds.iter().any(|round| round.failover_expected) {
            findings.push(waited(gap, &waits, must));
        }
        findings.extend(no_failover(rounds, must));
        findings.extend(lost(rounds, must));
        findings.extend(claimed(rounds, must));
        findings.extend(achieved(rounds, must));
        Self { findings, gap, gap_goal_met: gap.p50 <= GAP_GOAL_P50_MS && gap.p99 <= GAP_GOAL_P99_MS }
    }

    /// Judges the longest latency of the drill's requests too.
    pub fn add_latency(&mut self, longest_ms: f64, must: &Must) {
        if must.latency_max_ms > 0.0 {
            let kept = longest_ms <= must.latency_max_ms;
            let numbers = format!("the longest took {longest_ms:.0} ms, limit {} ms", must.latency_max_ms);
            self.findings.push(Finding { promise: Promise::Latency, kept, numbers });
        }
    }

    /// Whether every promise was kept.
    pub fn is_pass(&self) -> bool {
        self.broken() == 0
    }

    /// Promises that were broken.
    pub fn broken(&self) -> usize {
        self.findings.iter().filter(|finding| !finding.kept).count()
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

fn p5(rounds: &[Evidence], limit_ms: f64) -> Finding {
    let tally = sum(rounds, |round| round.others);
    let gaps = Quantiles::of_us(rounds.iter().flat_map(Evidence::gaps_others_us).collect());
    let kept = tally.is_clean() && gaps.p50 <= limit_ms;
    let numbers = format!(
        "other sessions: {}, wait p50 {:.1} ms, p99 {:.1} ms",
        if tally.is_clean() { "nothing wrong".to_owned() } else { format!("{tally:?}") },
        gaps.p50,
        gaps.p99
    );
    Finding { promise: Promise::P5, kept, numbers }
}

/// Sessions of a claimed group may stay with their node: then it counts that they are served.
fn failed_over(rounds: &[Evidence], must: &Must) -> Finding {
    let hit: Vec<&Evidence> = rounds.iter().filter(|round| round.failover_expected).collect();
    let served: usize = hit.iter().map(|round| round.load.on_failed_node).sum();
    let moved: usize = hit.iter().map(|round| round.load.failed_over).sum();
    let waiting: usize = hit.iter().map(|round| round.load.waiting).sum();
    let detected = hit.iter().all(|round| round.timeline.detect_ms.is_some());
    let all_moved = moved == served || must.claimed_groups;
    let kept = !hit.is_empty() && served > 0 && all_moved && waiting == 0 && detected;
    let seen = if detected { "" } else { ", no failover seen" };
    let numbers = format!("{moved} of the failed node's {served} sessions moved, {waiting} still without a byte{seen}");
    Finding { promise: Promise::FailedOver, kept, numbers }
}

fn waited(gap: Quantiles, waits: &[u64], must: &Must) -> Finding {
    let limit = must.wait_p50_ms;
    let resent = waits.iter().filter(|us| **us >= RETRANSMISSION_US).count();
    let tolerated = (waits.len() / RESENT_TOLERATED).max(1);
    let mut kept = gap.p50 <= limit && (resent <= tolerated || !must.is_without_retransmission());
    let mut numbers = format!(
        "wait after detection p50 {:.1} ms, limit {limit} ms; {resent} of {} sessions waited {} ms or more",
        gap.p50,
        waits.len(),
        RETRANSMISSION_US / 1000
    );
    if must.wait_p99_ms > 0.0 {
        kept &= gap.p99 <= must.wait_p99_ms;
        numbers += &format!("; p99 {:.1} ms, limit {} ms", gap.p99, must.wait_p99_ms);
    }
    Finding { promise: Promise::Gap, kept, numbers }
}

/// Only where the drill asks for it, or had a fault that takes no node.
fn no_failover(rounds: &[Evidence], must: &Must) -> Option<Finding> {
    let calm = rounds.iter().filter(|round| !round.failover_expected);
    if must.false_failovers == u32::MAX {
        return None;
    }
    let deaths: usize = rounds.iter().map(|round| round.false_deaths.len()).sum();
    let handed: usize = calm.map(|round| round.timeline.handed_over()).sum();
    let kept = handed == 0 && deaths <= must.false_failovers as usize;
    let numbers = format!(
        "{deaths} nodes without a fault were declared dead, {handed} groups changed hands without a node's fault"
    );
    Some(Finding { promise: Promise::NoFailover, kept, numbers })
}

/// Only where the drill takes a slice's last copy.
fn lost(rounds: &[Evidence], must: &Must) -> Option<Finding> {
    let groups: usize = rounds.iter().map(|round| round.lost.groups).sum();
    let sessions: usize = rounds.iter().map(|round| round.lost.sessions).sum();
    must.lost_groups.then(|| Finding {
        promise: Promise::Lost,
        kept: groups > 0 && sessions > 0,
        numbers: format!("{groups} groups were reported as lost, with them {sessions} sessions ended"),
    })
}

/// Only where the drill pauses all copies of a slice.
fn claimed(rounds: &[Evidence], must: &Must) -> Option<Finding> {
    let groups: usize = rounds.iter().map(|round| round.claimed).sum();
    must.claimed_groups.then(|| Finding {
        promise: Promise::Claimed,
        kept: groups > 0,
        numbers: format!("{groups} groups went on from the memory of nodes that had been declared dead"),
    })
}

/// Only where the drill asks for it.
fn achieved(rounds: &[Evidence], must: &Must) -> Option<Finding> {
    let wanted = must.achieved_over_offered;
    if wanted <= 0.0 {
        return None;
    }
    let least = Achieved::least(rounds);
    let kept = least.is_some_and(|least| least >= wanted);
    let least = least.map_or("nothing was measured".into(), |least| format!("{least:.4} of the requests due"));
    let numbers = format!("answered while the fault lasted: {least}, at least {wanted}");
    Some(Finding { promise: Promise::Achieved, kept, numbers })
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
