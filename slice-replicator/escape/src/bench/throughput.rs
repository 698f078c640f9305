//! How many requests per second a cell answers, with slices and without, and what processor time each takes.
//!
//! - `none`: a cell of one node with replication off.
//! - `slice`: a cell of two nodes, all sessions on node 0, node 1 stands by for them.
//!
//! Open loop: the sessions' requests are due at fixed times whatever comes back. First both are asked for more than
//! they can answer, in turn; then both for half of what `none` could answer at most. Client and cell share this
//! machine's processors.

use super::cells::{OWNER, STANDBY, handed_over, start, start_with_one_owner};
use super::error::BenchError;
use super::process_usage::processor_time;
use super::throughput_report::{CpuPerRequest, Load, Series, ThroughputReport};
use crate::cell::{CellPlan, LocalCell};
use crate::drill::Cell;
use crate::load::{LoadHandle, LoadPlan};
use std::time::{Duration, Instant};

/// Offered at first to find the most that a cell answers, requests per second.
const FIRST_OFFER: f64 = 4_000.0;
/// An offer is too much when less than this share of it is answered; else the next one is larger.
const SATURATED: f64 = 0.9;
/// How much larger.
const RAISE: f64 = 1.6;
/// Offers tried in one search.
const OFFERS_MAX: usize = 6;
/// What is offered in later rounds, against the most that was answered so far.
const OVERLOAD: f64 = 1.3;
/// How long the sessions may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// Load before counting begins.
const WARM_UP: Duration = Duration::from_millis(500);
const HALF: f64 = 0.5;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct ThroughputPlan {
    /// Sessions.
    pub sessions: u32,
    /// Rounds; in each, both cells are saturated and both are asked for half.
    pub rounds: usize,
    /// Time that is counted of each load.
    pub time: Duration,
}

/// Measures.
///
/// # Errors
/// What could not be set up, or what went wrong at the clients.
pub fn measure_throughput(plan: &ThroughputPlan) -> Result<ThroughputReport, BenchError> {
    let cell = CellPlan::new(plan.sessions);
    let mut none =
        Kind::new(start("cell without replication", CellPlan { nodes: 1, replication: false, ..cell.clone() })?);
    let mut slice = Kind::new(start_with_one_owner("cell with one owner", cell)?);
    for _ in 0..plan.rounds {
        none.saturate(plan)?;
        slice.saturate(plan)?;
    }
    let half = none.best() * HALF;
    for _ in 0..plan.rounds {
        none.keep_up(plan, half)?;
        slice.keep_up(plan, half)?;
    }
    let handovers = slice.handovers();
    Ok(ThroughputReport::new(plan, none.figures(), slice.figures(), handovers))
}

/// A cell and what was measured on it.
struct Kind {
    cell: LocalCell,
    saturated: Series,
    half: Series,
    handed_over: usize,
    seed: u64,
}

impl Kind {
    fn new(mut cell: LocalCell) -> Self {
        let handed_over = handed_over(&mut cell);
        Self { cell, saturated: Series::default(), half: Series::default(), handed_over, seed: 0 }
    }

    /// Groups handed over since the measurement began.
    fn handovers(&mut self) -> usize {
        handed_over(&mut self.cell).saturating_sub(self.handed_over)
    }

    fn figures(self) -> (Series, Series) {
        (self.saturated, self.half)
    }

    /// The most that was answered so far, requests per second.
    fn best(&self) -> f64 {
        self.saturated.best_rps()
    }

    /// Offers more than is answered and keeps that load.
    fn saturate(&mut self, plan: &ThroughputPlan) -> Result<(), BenchError> {
        let mut offer = if self.best() > 0.0 { self.best() * OVERLOAD } else { FIRST_OFFER };
        for last in (0..OFFERS_MAX).rev() {
            let load = self.run(plan, offer)?;
            if load.achieved_rps < SATURATED * offer || last == 0 {
                self.saturated.loads.push(load);
                return Ok(());
            }
            offer *= RAISE;
        }
        Ok(())
    }

    /// Offers what is to be answered, and keeps that load.
    fn keep_up(&mut self, plan: &ThroughputPlan, offered_rps: f64) -> Result<(), BenchError> {
        let load = self.run(plan, offered_rps)?;
        self.half.loads.push(load);
        Ok(())
    }

    /// Opens the sessions, offers so many requests per second, counts, and ends the sessions.
    fn run(&mut self, plan: &ThroughputPlan, offered_rps: f64) -> Result<Load, BenchError> {
        self.seed += 1;
        let service = self.cell.service();
        let sessions = plan.sessions as usize;
        let load = LoadPlan {
            stream_percent: 0,
            burst: 1,
            requests_per_second: offered_rps / f64::from(plan.sessions),
            ..LoadPlan::new(service.http, service.stream, sessions, self.seed)
        };
        let load = LoadHandle::start(load, || self.cell.client_namespace())?;
        load.wait_open(OPEN_LIMIT)?;
        std::thread::sleep(WARM_UP);
        let (before, begun) = (self.sample(&load)?, Instant::now());
        std::thread::sleep(plan.time);
        let (after, time) = (self.sample(&load)?, begun.elapsed());
        let outcome = load.finish()?;
        if let Some(first) = outcome.described.first() {
            return Err(BenchError::Answer {
                what: format!("{offered_rps:.0} requests per second"),
                detail: first.clone(),
            });
        }
        let answered = after.answered.saturating_sub(before.answered);
        let each =
            |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() * 1e6 / answered.max(1) as f64;
        Ok(Load {
            offered_rps,
            achieved_rps: answered as f64 / time.as_secs_f64(),
            cpu_us_per_request: CpuPerRequest {
                owner: each(after.owner, before.owner),
                standby: each(after.standby, before.standby),
                client: outcome.cpu_us_per_request(),
            },
        })
    }

    fn sample(&self, load: &LoadHandle) -> Result<Sample, BenchError> {
        let process = |node| self.cell.process_id(node).map_err(BenchError::setup("node"));
        let standby = match process(STANDBY) {
            Ok(id) => processor_time(id)?,
            // A cell of one node.
            Err(_) => Duration::ZERO,
        };
        Ok(Sample {
            // In this order: an answer between the two looks is not counted rather than counted too early.
            answered: load.requests().saturating_sub(load.in_flight()),
            owner: processor_time(process(OWNER)?)?,
            standby,
        })
    }
}

/// Figures at one moment.
struct Sample {
    answered: u64,
    owner: Duration,
    standby: Duration,
}
