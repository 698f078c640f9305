//! Cells that measurements run on.

use super::error::BenchError;
use super::requests::Requests;
use crate::cell::{CellPlan, LocalCell};
use crate::drill::{Cell, EventKind, Fault};
use std::time::Duration;

/// How long a cell may take to come up, and to settle.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Connections tried until one is node 0's: each has an even chance.
const CONNECTIONS_MAX: usize = 64;
/// The node whose sessions are measured.
pub(super) const OWNER: u16 = 0;
/// The other one.
pub(super) const STANDBY: u16 = 1;

/// A cell that is up and protected.
pub(super) fn start(which: &'static str, plan: CellPlan) -> Result<LocalCell, BenchError> {
    let mut cell = LocalCell::start(plan).map_err(BenchError::setup(which))?;
    wait_ready(which, &mut cell)?;
    Ok(cell)
}

/// A cell of two nodes in which every session is node 0's and node 1 stands by: node 1's guest has crashed, its groups
/// were handed over with their share of new flows, and a group stays where it is.
pub(super) fn start_with_one_owner(which: &'static str, plan: CellPlan) -> Result<LocalCell, BenchError> {
    let mut cell = start(which, CellPlan { nodes: 2, ..plan })?;
    let failed = |source| BenchError::Cell { which, source };
    cell.inject(STANDBY, Fault::Guest).map_err(failed)?;
    cell.heal(STANDBY, Fault::Guest).map_err(failed)?;
    wait_handed_over(which, &mut cell)?;
    wait_ready(which, &mut cell)?;
    Ok(cell)
}

fn wait_handed_over(which: &'static str, cell: &mut LocalCell) -> Result<(), BenchError> {
    let begun = std::time::Instant::now();
    while cell.status(STANDBY).map_err(BenchError::setup(which))?.groups > 0 {
        if begun.elapsed() > READY_LIMIT {
            let detail = format!("node {STANDBY} still owns groups after {READY_LIMIT:?}");
            return Err(BenchError::Answer { what: which.into(), detail });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Waits until every group is protected.
pub(super) fn wait_ready(which: &'static str, cell: &mut LocalCell) -> Result<(), BenchError> {
    cell.wait_ready(READY_LIMIT).map_err(|source| BenchError::Cell { which, source })
}

/// Groups that were handed over so far: during a measurement there must be none.
pub(super) fn handed_over(cell: &mut LocalCell) -> usize {
    cell.timeline().iter().filter(|event| event.event == EventKind::EpochRaised).count()
}

/// A connection whose session node 0 owns.
pub(super) fn connect(which: &'static str, cell: &mut LocalCell) -> Result<Requests, BenchError> {
    let service = cell.service_addresses().http;
    for _ in 0..CONNECTIONS_MAX {
        let before = cell.status(OWNER).map_err(BenchError::setup(which))?.slices;
        let mut requests = Requests::connect(service, cell.client_namespace())?;
        requests.dirty(1, 1, &mut Vec::new())?;
        if cell.status(OWNER).map_err(BenchError::setup(which))?.slices > before {
            return Ok(requests);
        }
    }
    Err(BenchError::Answer {
        what: which.into(),
        detail: format!("node {OWNER} got none of {CONNECTIONS_MAX} connections"),
    })
}
