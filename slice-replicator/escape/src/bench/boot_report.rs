//! The figures of `escape bench boot`.

use super::percentiles::Percentiles;
use escape_node::solo::{SoloStep, SoloTimes};
use serde::Serialize;
use std::fmt::Write;

/// Goal for half of the boots, milliseconds.
pub const GOAL_P50_MS: f64 = 50.0;
const NS_PER_US: u64 = 1_000;
const NS_PER_MS: f64 = 1e6;

/// One boot.
#[derive(Clone, Debug)]
pub(super) struct BootRun {
    /// From exec to an accepted connection.
    pub(super) connected_us: u64,
    /// From exec to the first byte of an answer.
    pub(super) answered_us: u64,
    /// When exec was called, CLOCK_MONOTONIC.
    pub(super) begun_us: u64,
    /// What the process says of itself.
    pub(super) times: SoloTimes,
}

/// A step of the boot.
#[derive(Clone, Debug, Serialize)]
pub struct BootStage {
    /// What was done.
    pub step: String,
    /// Milliseconds from exec.
    #[serde(flatten)]
    pub done_ms: Percentiles,
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct BootReport {
    /// Boots.
    pub runs: usize,
    /// From exec to the first byte of the first answer, milliseconds.
    pub first_answer_ms: Percentiles,
    /// Steps on the way, in order; each from exec.
    pub stages: Vec<BootStage>,
}

impl BootReport {
    pub(super) fn of(runs: &[BootRun]) -> Self {
        let steps = [
            (SoloStep::Configured, "program runs, configuration read"),
            (SoloStep::Built, "machine built"),
            (SoloStep::Started, "image loaded, vCPU runs"),
            (SoloStep::Leased, "first lease mapped"),
            (SoloStep::Ready, "guest ready"),
            (SoloStep::FirstFrameIn, "first frame into the guest"),
            (SoloStep::FirstFrameOut, "first frame out of the guest"),
        ];
        let mut stages: Vec<BootStage> = steps
            .into_iter()
            .map(|(step, words)| {
                stage(words, runs.iter().filter_map(|r| Some(r.times.at(step)?.saturating_sub(r.begun_us))))
            })
            .collect();
        stages.push(stage("connection accepted", runs.iter().map(|r| r.connected_us)));
        let answered = stage("first byte of the answer", runs.iter().map(|r| r.answered_us));
        let first_answer_ms = answered.done_ms;
        stages.push(answered);
        Self { runs: runs.len(), first_answer_ms, stages }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} boots, milliseconds from exec {:>19} {:>9}", self.runs, "p50", "p99");
        for stage in &self.stages {
            let _ = writeln!(text, "  {:<42} {:>9.2} {:>9.2}", stage.step, stage.done_ms.p50, stage.done_ms.p99);
        }
        let goal = if self.first_answer_ms.p50 <= GOAL_P50_MS { "met" } else { "missed" };
        let _ = writeln!(text, "goal: p50 at most {GOAL_P50_MS} ms: {goal}");
        text
    }
}

fn stage(words: &str, us: impl Iterator<Item = u64>) -> BootStage {
    let mut ns: Vec<u64> = us.map(|us| us.saturating_mul(NS_PER_US)).collect();
    BootStage { step: words.into(), done_ms: Percentiles::of_ns(&mut ns, NS_PER_MS) }
}
