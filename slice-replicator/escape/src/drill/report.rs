//! The report for programs (`--json`): names and shape are an interface, units are in the names.

use serde::{Serialize, Serializer};

use super::evidence::Evidence;
use super::must::Must;
use super::quantiles::Quantiles;
use super::timeline::Step;
use super::verdict::Verdict;
use crate::load::Tally;

/// One drill, or one round of it.
///
/// With several rounds the top level is the whole drill: counts are added, waits of all rounds are one set,
/// `in_flight_at_fault` is the least of all rounds, `detect_ms` their median, `reprotect_ms` and `unprotected_ms` the
/// longest; times of `timeline` are counted from the first fault.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// "pass" or "fail".
    pub verdict: &'static str,
    /// Client sessions.
    pub sessions: usize,
    /// Sessions that the failed node served at the fault and another node serves now. Streams cannot say who serves
    /// them and are not among them.
    pub sessions_failed_over: usize,
    /// Requests sent.
    pub requests: u64,
    /// Requests sent and not answered when the fault happened, all sessions.
    pub in_flight_at_fault: u64,
    /// Requests lost.
    pub lost: u64,
    /// Requests executed or answered more than once.
    pub duplicated: u64,
    /// Replies out of order.
    pub reordered: u64,
    /// Wrong bytes.
    pub wrong_bytes: u64,
    /// Connections reset or closed by the service, or refused.
    pub resets: u64,
    /// From the fault until the orchestrator and a standby both suspected the node; null if they did not.
    #[serde(serialize_with = "optional_three_digits")]
    pub detect_ms: Option<f64>,
    /// Who suspected it, in order.
    pub detected_by: Option<String>,
    /// Failed node's sessions: first right byte after the fault − the later of fault and scheduled sending. Bytes that
    /// the old owner had sent before the fault and that came after it are not taken for a recovery.
    pub gap_ms: Quantiles,
    /// The same, counted from the later of detection and scheduled sending.
    pub gap_after_detection_ms: Quantiles,
    /// As `gap_ms`, for all other sessions.
    pub gap_others_ms: Quantiles,
    /// What happened, in order.
    pub timeline: Vec<Step>,
    /// Slices that got a new standby.
    pub reprotected: u64,
    /// From the fault until every slice had a standby again; null if that did not happen in time.
    #[serde(serialize_with = "optional_three_digits")]
    pub reprotect_ms: Option<f64>,
    /// Longest time that a slice rested on a single copy; null if it still did at the end.
    #[serde(serialize_with = "optional_three_digits")]
    pub unprotected_ms: Option<f64>,
    /// Each round by itself, if there was more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<Report>,
}

impl Report {
    /// The report of a whole drill.
    pub fn of(rounds: &[Evidence], must: &Must) -> Self {
        let mut report = Self::of_set(rounds, must);
        if rounds.len() > 1 {
            report.rounds = rounds.iter().map(|round| Self::of_set(&at_zero(round), must)).collect();
        }
        report
    }

    fn of_set(set: &[Evidence], must: &Must) -> Self {
        let tally = set.iter().fold(Tally::default(), |sum, round| sum.plus(&round.tally()));
        let reprotections = || set.iter().map(|round| round.reprotection);
        Self {
            verdict: if Verdict::judge(set, must).is_pass() { "pass" } else { "fail" },
            sessions: set.iter().map(|round| round.sessions).max().unwrap_or(0),
            sessions_failed_over: set.iter().map(|round| round.load.failed_over).sum(),
            requests: set.iter().map(|round| round.requests).sum(),
            in_flight_at_fault: set.iter().map(|round| round.load.in_flight).min().unwrap_or(0),
            lost: tally.lost,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            wrong_bytes: tally.wrong_bytes,
            resets: tally.resets,
            detect_ms: median(set.iter().filter_map(|round| round.timeline.detect_ms).collect()),
            detected_by: detected_by(set),
            gap_ms: Quantiles::of_us(set.iter().flat_map(Evidence::gaps_us).collect()),
            gap_after_detection_ms: Quantiles::of_us(set.iter().flat_map(Evidence::gaps_after_detection_us).collect()),
            gap_others_ms: Quantiles::of_us(set.iter().flat_map(Evidence::gaps_others_us).collect()),
            timeline: set.iter().flat_map(steps).collect(),
            reprotected: reprotections().flatten().map(|(reprotection, _)| reprotection.slices).sum(),
            reprotect_ms: longest(reprotections().map(|found| found.map(|(_, ms)| ms))),
            unprotected_ms: longest(reprotections().map(|found| found.map(|(r, _)| r.unprotected.as_secs_f64() * 1e3))),
            rounds: Vec::new(),
        }
    }
}

fn at_zero(round: &Evidence) -> [Evidence; 1] {
    [Evidence { offset_ms: 0.0, ..round.clone() }]
}

fn steps(round: &Evidence) -> impl Iterator<Item = Step> + '_ {
    round.timeline.steps.iter().map(|step| Step { t_ms: step.t_ms + round.offset_ms, ..*step })
}

fn detected_by(set: &[Evidence]) -> Option<String> {
    let mut names: Vec<&str> = set.iter().filter_map(|round| round.timeline.detected_by.as_deref()).collect();
    names.dedup();
    (!names.is_empty()).then(|| names.join("; "))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().div_ceil(2).checked_sub(1)?).copied()
}

/// The longest of all, none if one is missing.
fn longest(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    values.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
}

fn optional_three_digits<S: Serializer>(ms: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match ms {
        Some(ms) => super::timeline::three_digits(ms, serializer),
        None => serializer.serialize_none(),
    }
}
