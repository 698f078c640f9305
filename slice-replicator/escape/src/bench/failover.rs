//! How long a failover takes by the number of sessions: a drill of each size, one kill each.

use super::error::BenchError;
use super::failover_report::{FailoverCase, FailoverReport};
use crate::cell::{CellPlan, LocalCell};
use crate::drill::{self, DrillOptions, Fault, Progress};
use std::time::{Duration, Instant};

/// Requests per second of all sessions together at most, so that a large cell is not a loaded one.
const RATE_MAX: f64 = 1_000.0;
/// The same for each session.
const SESSION_RATE_MAX: f64 = 5.0;
/// Load before the fault.
const WARM_UP: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Clone, Debug)]
pub struct FailoverPlan {
    /// Numbers of sessions, one after the other.
    pub sessions: Vec<usize>,
    /// No further size is begun after this.
    pub time: Duration,
    /// Seed of requests, node and moment.
    pub seed: u64,
}

/// Measures.
///
/// # Errors
/// A cell that could not be set up, or a drill that could not be held; a broken promise is told in the report.
pub fn measure_failover(plan: &FailoverPlan) -> Result<FailoverReport, BenchError> {
    let begun = Instant::now();
    let mut report = FailoverReport::default();
    for sessions in &plan.sessions {
        if begun.elapsed() >= plan.time {
            report.left_out.push(*sessions);
            continue;
        }
        report.cases.push(case(*sessions, plan.seed)?);
    }
    Ok(report)
}

fn case(sessions: usize, seed: u64) -> Result<FailoverCase, BenchError> {
    let options = DrillOptions {
        sessions,
        fault: Fault::Kill,
        seed,
        requests_per_second: (RATE_MAX / sessions.max(1) as f64).min(SESSION_RATE_MAX),
        warm_up: WARM_UP,
        cool_down: Duration::ZERO,
        ..DrillOptions::default()
    };
    let count = u32::try_from(sessions).unwrap_or(u32::MAX);
    let mut cell = LocalCell::start(CellPlan::new(count)).map_err(BenchError::setup("cell of three nodes"))?;
    let result = drill::hold(&mut cell, &options.plan(), &Progress::quiet())?;
    Ok(FailoverCase::of(&result))
}
