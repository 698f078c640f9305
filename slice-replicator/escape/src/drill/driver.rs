//! The sequence of a drill:
//!
//! ```text
//! cell ready ─▶ sessions open ─▶ warm-up ─▶ round … round ─▶ last check of every session ─▶ shutdown
//! ```

use std::thread;
use std::time::{Duration, Instant};

use super::cell_trait::Cell;
use super::chooser::Chooser;
use super::drill_result::DrillResult;
use super::error::DrillError;
use super::evidence::Evidence;
use super::plan::DrillPlan;
use super::progress::Progress;
use super::round::Round;
use crate::load::{LoadHandle, LoadPlan, Tally};

/// How long the cell may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Clients of sessions that were given up of which the cell is asked what it knows.
const CLIENTS_TOLD_MAX: usize = 4;
/// How long the sessions may take to open, beside the time that their pace needs.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Holds a drill on `cell` and shuts it down, whatever happens.
pub fn hold(cell: &mut dyn Cell, plan: &DrillPlan, progress: &Progress) -> Result<DrillResult, DrillError> {
    let result = hold_inner(cell, plan, progress);
    progress.say("shutting down");
    cell.shutdown();
    result
}

fn hold_inner(cell: &mut dyn Cell, plan: &DrillPlan, progress: &Progress) -> Result<DrillResult, DrillError> {
    progress.say("starting the cell");
    cell.wait_ready(READY_LIMIT)?;
    progress.say(format!("opening {} sessions", plan.sessions));
    let load = LoadHandle::start(load_plan(cell, plan), || cell.client_namespace())?;
    let pace = Duration::from_secs(plan.sessions as u64 / 1_000);
    let mut since = Instant::now();
    load.wait_open(OPEN_LIMIT + pace)?;
    progress.say("warming up");
    thread::sleep(plan.pace.warm_up);
    let mut chooser = Chooser::new(plan.seed);
    let mut rounds: Vec<Evidence> = Vec::new();
    let mut first_fault = None;
    for (number, strikes) in (1..).zip(&plan.rounds) {
        if number > 1 {
            cell.wait_ready(READY_LIMIT)?;
        }
        let round = Round { number, strikes, plan, load: &load, progress };
        let (fault, mut evidence) = round.hold(cell, &mut chooser, since)?;
        since = Instant::now();
        let first = *first_fault.get_or_insert(fault);
        evidence.offset_ms = fault.saturating_duration_since(first).as_secs_f64() * 1e3;
        rounds.push(evidence);
    }
    progress.say("checking every session");
    let outcome = load.finish()?;
    settle(&mut rounds, &outcome.of_failed_node, &outcome.others, outcome.requests);
    let given_up = outcome.given_up.iter().take(CLIENTS_TOLD_MAX);
    let told_of = given_up.map(|client| (*client, cell.tell_of_client(*client))).collect();
    Ok(DrillResult { rounds, load: outcome, must: plan.must, told_of })
}

fn load_plan(cell: &dyn Cell, plan: &DrillPlan) -> LoadPlan {
    let service = cell.service();
    LoadPlan {
        stream_percent: plan.stream_percent,
        requests_per_second: plan.requests_per_second,
        churn_per_second: plan.churn_per_second,
        generators: plan.generators,
        client_addresses: cell.client_addresses(),
        ..LoadPlan::new(service.http, service.stream, plan.sessions, plan.seed)
    }
}

/// Gives each round what was counted from the end of the one before it to its own; what the last check found belongs
/// to the last round, what was found before the first fault to the first.
fn settle(rounds: &mut [Evidence], of_failed_node: &Tally, others: &Tally, requests: u64) {
    let mut before = (Tally::default(), Tally::default(), 0);
    let last = rounds.len().saturating_sub(1);
    for (index, round) in rounds.iter_mut().enumerate() {
        let now = if index == last {
            (*of_failed_node, *others, requests)
        } else {
            (round.load.of_failed_node, round.load.others, round.load.requests)
        };
        round.of_failed_node = now.0.since(&before.0);
        round.others = now.1.since(&before.1);
        round.requests = now.2.saturating_sub(before.2);
        before = now;
    }
}
