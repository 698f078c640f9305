//! The figures of `escape bench wire`.

use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Goal for (bytes − 128) ÷ (64 × changed lines), p99.
pub const GOAL_RATIO_P99: f64 = 1.25;

/// What the owner counted. Ratios: (bytes − 128) ÷ (64 × changed lines) of a checkpoint; 10 stands for more, too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireFigures {
    /// Checkpoints sent.
    pub checkpoints: u64,
    /// Changed lines of 64 bytes in them.
    pub lines_changed: u64,
    /// Bytes of their messages, before encryption.
    pub bytes_sent: u64,
    /// Half of the checkpoints are no worse.
    pub ratio_p50: f64,
    /// 99 of 100 are no worse.
    pub ratio_p99: f64,
    /// The worst.
    pub ratio_max: f64,
}

/// One number of changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WireCase {
    /// Bytes of the session that each request changes.
    pub changed_bytes: usize,
    /// Requests.
    pub requests: usize,
    /// What was counted.
    #[serde(flatten)]
    pub figures: WireFigures,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WireReport {
    /// One per number of changed bytes.
    pub cases: Vec<WireCase>,
    /// Every case meets the goal.
    pub goal_met: bool,
}

impl WireReport {
    pub(super) fn new(cases: Vec<WireCase>) -> Self {
        let goal_met = cases.iter().all(|case| case.figures.ratio_p99 <= GOAL_RATIO_P99);
        Self { cases, goal_met }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "(bytes sent - 128) / (64 x changed lines) of each checkpoint\n  changed B  requests  checkpoints      lines \
             \u{20}     bytes    p50    p99    max\n",
        );
        for WireCase { changed_bytes, requests, figures: f } in &self.cases {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {changed_bytes:>9} {requests:>9} {:>12} {:>10} {:>11} {:>6.2} {:>6.2} {:>6.2}",
                f.checkpoints, f.lines_changed, f.bytes_sent, f.ratio_p50, f.ratio_p99, f.ratio_max
            );
        }
        let _ = writeln!(text, "goal: p99 {GOAL_RATIO_P99}: {}", if self.goal_met { "met" } else { "missed" });
        text
    }
}
