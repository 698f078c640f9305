//! What a checkpoint puts on the link for the lines that it brings.
//!
//! One connection, one request in flight, each changing so many bytes of its session. The owner counts every
//! checkpoint's changed lines and the bytes of its message (head and length prefix included, before encryption).

use super::cells::{OWNER, connect, start};
use super::error::BenchError;
use super::requests::Requests;
use super::wire_report::{WireCase, WireFigures, WireReport};
use crate::cell::{CellPlan, LocalCell};
use std::time::{Duration, Instant};

const WHICH: &str = "cell with a standby";
/// Requests between two looks at the time.
const BLOCK: usize = 50;
/// Requests after which nothing of a former case is left to be sent.
const WARM_UP: usize = 16;

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct WirePlan {
    /// Bytes that a request changes, case by case.
    pub changed_bytes: Vec<usize>,
    /// Time for all cases together.
    pub time: Duration,
}

/// Measures.
///
/// # Errors
/// What could not be set up, or which answer was wrong.
pub fn measure_wire(plan: &WirePlan) -> Result<WireReport, BenchError> {
    let mut cell = start(WHICH, CellPlan { nodes: 2, ..CellPlan::new(16) })?;
    let mut requests = connect(WHICH, &mut cell)?;
    let share = plan.time / u32::try_from(plan.changed_bytes.len().max(1)).unwrap_or(u32::MAX);
    let cases = plan.changed_bytes.iter().map(|changed| case(&mut cell, &mut requests, *changed, share));
    Ok(WireReport::new(cases.collect::<Result<_, _>>()?))
}

fn case(cell: &mut LocalCell, requests: &mut Requests, changed: usize, time: Duration) -> Result<WireCase, BenchError> {
    requests.dirty(changed, WARM_UP, &mut Vec::new())?;
    figures(cell)?;
    let begun = Instant::now();
    let mut count = 0;
    while count == 0 || begun.elapsed() < time {
        requests.dirty(changed, BLOCK, &mut Vec::new())?;
        count += BLOCK;
    }
    Ok(WireCase { changed_bytes: changed, requests: count, figures: figures(cell)? })
}

/// What the owner counted since the last call.
fn figures(cell: &mut LocalCell) -> Result<WireFigures, BenchError> {
    let answer = cell.ask(OWNER, "wire").map_err(BenchError::setup(WHICH))?;
    serde_json::from_value(answer)
        .map_err(|error| BenchError::Answer { what: format!("wire of node {OWNER}"), detail: error.to_string() })
}
