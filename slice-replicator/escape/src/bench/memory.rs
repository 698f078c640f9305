//! What a session costs in memory: at its owner, and at its standby.
//!
//! In a cell of two nodes all sessions are node 0's, and node 1 keeps their images. The memory that each process has
//! present is read with no session, with all sessions open and idle, and after each has been used.

use super::cells::{OWNER, STANDBY, start_with_one_owner, wait_ready};
use super::error::BenchError;
use super::memory_report::{MemoryReport, SessionBytes};
use super::process_usage::PresentMemory;
use super::requests::Requests;
use crate::cell::{CellPlan, LocalCell};
use crate::drill::Cell;
use std::time::{Duration, Instant};

const WHICH: &str = "cell with one owner";
/// How long the standby may take to have what the owner has.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);
/// Rest after the last change: timers that still commit something, and pages that are made present for a failover.
const REST: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPlan {
    /// Sessions.
    pub sessions: u32,
    /// Bytes of its state that a session's use changes.
    pub used_bytes: usize,
    /// Requests that a session's use consists of.
    pub used_requests: usize,
}

/// Memory of owner and standby at one moment.
#[derive(Clone, Copy)]
struct Sample {
    owner: PresentMemory,
    standby: PresentMemory,
}

impl Sample {
    fn take(cell: &LocalCell) -> Result<Self, BenchError> {
        let of = |node| PresentMemory::of(cell.process_id(node).map_err(BenchError::setup(WHICH))?);
        Ok(Self { owner: of(OWNER)?, standby: of(STANDBY)? })
    }

    /// Bytes per session since `before`.
    fn since(&self, before: &Self, sessions: u32) -> SessionBytes {
        let each = |now: u64, then: u64| now.saturating_sub(then) / u64::from(sessions.max(1));
        SessionBytes {
            owner: each(self.owner.all, before.owner.all),
            standby: each(self.standby.all, before.standby.all),
        }
    }
}

/// Measures.
///
/// # Errors
/// What could not be set up, or which answer was wrong.
pub fn measure_memory(plan: &MemoryPlan) -> Result<MemoryReport, BenchError> {
    let mut cell = start_with_one_owner(WHICH, CellPlan::new(plan.sessions))?;
    std::thread::sleep(REST);
    let empty = Sample::take(&cell)?;
    let service = cell.service_addresses().http;
    let mut sessions = Vec::new();
    for _ in 0..plan.sessions {
        sessions.push(Requests::connect(service, cell.client_namespace())?);
    }
    settle(&mut cell, plan.sessions)?;
    let idle = Sample::take(&cell)?;
    for session in &mut sessions {
        session.dirty(plan.used_bytes, plan.used_requests, &mut Vec::new())?;
    }
    settle(&mut cell, plan.sessions)?;
    let used = Sample::take(&cell)?;
    Ok(MemoryReport::new(
        plan,
        idle.since(&empty, plan.sessions),
        used.since(&empty, plan.sessions),
        used.owner.guest,
        used.standby.all.saturating_sub(empty.standby.all),
    ))
}

/// Waits until the standby has an image of every session, and then some.
fn settle(cell: &mut LocalCell, sessions: u32) -> Result<(), BenchError> {
    wait_ready(WHICH, cell)?;
    let begun = Instant::now();
    loop {
        let status = cell.ask(STANDBY, "status").map_err(BenchError::setup(WHICH))?;
        let images = status.get("standby").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if images == u64::from(sessions) {
            std::thread::sleep(REST);
            return Ok(());
        }
        if begun.elapsed() > SETTLE_LIMIT {
            let detail = format!("{images} images of {sessions} sessions after {SETTLE_LIMIT:?}");
            return Err(BenchError::Answer { what: format!("status of node {STANDBY}"), detail });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
