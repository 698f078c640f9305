//! The figures of `escape bench failover`.

use crate::drill::{DrillResult, EventKind, Quantiles};
use serde::Serialize;
use std::fmt::Write;

/// One number of sessions. Milliseconds since the fault; none: it did not happen.
#[derive(Clone, Debug, Serialize)]
pub struct FailoverCase {
    /// Sessions of the cell.
    pub sessions: usize,
    /// Of these, sessions of the failed node that were served again.
    pub sessions_failed_over: usize,
    /// `pass`, or `fail`: a promise was broken or a limit missed.
    pub verdict: &'static str,
    /// Orchestrator and a standby suspect the node.
    pub detected_ms: Option<f64>,
    /// The last group is steered to its new owner.
    pub flipped_ms: Option<f64>,
    /// The last slice is plugged.
    pub plugged_ms: Option<f64>,
    /// Clients of the failed node: wait after detection for the first right byte.
    pub gap_after_detection_ms: Quantiles,
    /// Every slice has two copies again.
    pub protected_ms: Option<f64>,
}

impl FailoverCase {
    pub(super) fn of(result: &DrillResult) -> Self {
        let report = result.report();
        let last = |kind: EventKind, until: f64| {
            let steps = report.timeline.iter().filter(|step| step.event == kind && step.t_ms <= until);
            steps.map(|step| round(step.t_ms)).fold(None, |last: Option<f64>, t| Some(last.map_or(t, |l| l.max(t))))
        };
        let plugged = last(EventKind::LastPlugged, f64::INFINITY);
        Self {
            sessions: report.sessions,
            sessions_failed_over: report.sessions_failed_over,
            verdict: report.verdict,
            detected_ms: report.detect_ms.map(round),
            // The node that joins anew once it is healed has groups of its own, which are flipped much later.
            flipped_ms: last(EventKind::Flipped, plugged.map_or(f64::INFINITY, |ms| ms + 0.001)),
            plugged_ms: plugged,
            gap_after_detection_ms: report.gap_after_detection_ms,
            protected_ms: report.reprotect_ms.map(round),
        }
    }
}

/// The whole report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FailoverReport {
    /// One per number of sessions.
    pub cases: Vec<FailoverCase>,
    /// Numbers of sessions for which there was no time left.
    pub left_out: Vec<usize>,
}

impl FailoverReport {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "kill of one node of three; ms since the fault, gap: since detection\n  {:>8} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9} \
             {:>9}  verdict\n",
            "sessions", "moved", "detected", "flipped", "plugged", "gap p50", "gap p99", "protected"
        );
        let ms = |figure: Option<f64>| figure.map_or_else(|| "-".into(), |ms| format!("{ms:.1}"));
        for case in &self.cases {
            let gap = &case.gap_after_detection_ms;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {:>8} {:>6} {:>9} {:>9} {:>9} {:>9.1} {:>9.1} {:>9}  {}",
                case.sessions,
                case.sessions_failed_over,
                ms(case.detected_ms),
                ms(case.flipped_ms),
                ms(case.plugged_ms),
                gap.p50,
                gap.p99,
                ms(case.protected_ms),
                case.verdict
            );
        }
        if !self.left_out.is_empty() {
            let _ = writeln!(text, "no time was left for {:?} sessions", self.left_out);
        }
        text
    }
}

fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}
