//! Drills by files: one line each, and the sum.

use std::fmt::{self, Write};

use serde::Serialize;

use super::drill_result::DrillResult;
use super::error::DrillError;
use super::evidence::Achieved;
use super::injury::Injury;
use super::report::Report;
use super::verdict::Finding;

/// One drill.
#[derive(Clone, Debug, Serialize)]
pub struct DrillSummary {
    /// Its name.
    pub drill: String,
    /// What it shows.
    pub title: String,
    /// "pass", "fail", or "error" if it ended without a verdict.
    pub verdict: &'static str,
    /// Faults that were made.
    pub faults: usize,
    /// Promises that were broken, and what was found about them.
    pub broken: Vec<Finding>,
    /// Why it ended without a verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Sessions that were lost with a group of which no copy was left.
    pub lost_with_group: usize,
    /// The least share of the requests due that was answered while a fault lasted that takes no node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub achieved_over_offered: Option<f64>,
    /// Seed of requests, nodes and moments.
    pub seed: u64,
    /// The report of the drill as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

impl DrillSummary {
    /// Of a drill and its end.
    pub fn of(drill: &str, title: &str, seed: u64, result: &Result<DrillResult, DrillError>) -> Self {
        let summary = Self {
            drill: drill.into(),
            title: title.into(),
            verdict: "error",
            faults: 0,
            broken: Vec::new(),
            error: None,
            lost_with_group: 0,
            achieved_over_offered: None,
            seed,
            report: None,
        };
        match result {
            Err(error) => Self { error: Some(error.to_string()), ..summary },
            Ok(result) => {
                let report = Report { rounds: Vec::new(), ..result.report() };
                let injuries = result.rounds.iter().flat_map(|round| &round.injuries);
                Self {
                    verdict: report.verdict,
                    faults: injuries.filter(|injury| **injury != Injury::Nothing).count(),
                    broken: result.verdict().findings.into_iter().filter(|finding| !finding.kept).collect(),
                    lost_with_group: result.rounds.iter().map(|round| round.lost.sessions).sum(),
                    achieved_over_offered: Achieved::least(&result.rounds),
                    report: Some(report),
                    ..summary
                }
            }
        }
    }

    fn line(&self, text: &mut String) -> fmt::Result {
        let Self { drill, faults, verdict, .. } = self;
        let verdict = verdict.to_uppercase();
        let Some(report) = &self.report else { return writeln!(text, "{drill:<20} {verdict:>66}") };
        let Report { lost, duplicated, reordered, wrong_bytes, resets, gap_after_detection_ms: wait, .. } = report;
        let wrongs = format!("{lost}/{duplicated}/{reordered}/{wrong_bytes}/{resets}");
        let detect = report.detect_ms.map_or("-".into(), |ms| format!("{ms:.1}"));
        let waits = match report.detect_ms {
            Some(_) => format!("{:.1}/{:.1}", wait.p50, wait.p99),
            None => "-".into(),
        };
        writeln!(
            text,
            "{drill:<20} {faults:>6} {:>8} {:>11} {wrongs:>11} {detect:>9} {waits:>13}  {verdict}",
            report.sessions, report.sessions_failed_over
        )
    }
}

/// Several drills.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// "pass", or "fail" if one of them did not pass.
    pub verdict: &'static str,
    /// Faults of all.
    pub faults: usize,
    /// Promises broken in all; a drill without a verdict counts as one.
    pub broken_promises: usize,
    /// Each.
    pub drills: Vec<DrillSummary>,
}

impl Summary {
    /// The sum of `drills`. Nothing is no pass.
    pub fn of(drills: Vec<DrillSummary>) -> Self {
        let is_pass = !drills.is_empty() && drills.iter().all(|drill| drill.verdict == "pass");
        Self {
            verdict: if is_pass { "pass" } else { "fail" },
            faults: drills.iter().map(|drill| drill.faults).sum(),
            broken_promises: drills.iter().map(|drill| drill.broken.len() + usize::from(drill.error.is_some())).sum(),
            drills,
        }
    }

    /// One table, and below it what was broken.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, text: &mut String) -> fmt::Result {
        let (wrongs, waits) = ("l/d/o/w/r", "p50/p99");
        writeln!(
            text,
            "{:<20} {:>6} {:>8} {:>11} {wrongs:>11} {:>9} {waits:>13}  verdict",
            "drill", "faults", "sessions", "failed over", "detect ms"
        )?;
        for drill in &self.drills {
            drill.line(text)?;
        }
        writeln!(
            text,
            "l/d/o/w/r: requests lost, doubled, out of order; wrong bytes; resets. Waits after detection, ms."
        )?;
        for drill in &self.drills {
            for Finding { promise, numbers, .. } in &drill.broken {
                writeln!(text, "{}: BROKEN {promise}: {numbers} (seed {})", drill.drill, drill.seed)?;
            }
            if let Some(error) = &drill.error {
                writeln!(text, "{}: no verdict: {error} (seed {})", drill.drill, drill.seed)?;
            }
            if drill.lost_with_group > 0 {
                writeln!(
                    text,
                    "{}: {} sessions ended with their groups, as reported",
                    drill.drill, drill.lost_with_group
                )?;
            }
        }
        writeln!(text, "{} faults, {} broken promises", self.faults, self.broken_promises)?;
        writeln!(text, "verdict: {}", self.verdict.to_uppercase())
    }
}
