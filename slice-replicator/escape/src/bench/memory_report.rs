//! The figures of `escape bench memory`.

use super::memory::MemoryPlan;
use serde::Serialize;

/// Goal for what a standby keeps, against a twin of the owner's VM.
pub const GOAL_OF_TWIN: f64 = 0.1;

/// Memory of one session, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SessionBytes {
    /// At its owner: guest memory, the copy of what was captured last, tables.
    pub owner: u64,
    /// At its standby: image, pages kept present for its plug, tables.
    pub standby: u64,
}

/// The whole report.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MemoryReport {
    /// Sessions.
    pub sessions: u32,
    /// Bytes of its state that a session's use changed.
    pub used_bytes: usize,
    /// A session that is open and has not said anything.
    pub idle_session_bytes: SessionBytes,
    /// A session that was used.
    pub used_session_bytes: SessionBytes,
    /// What a twin of the owner's VM would hold: its guest's memory that is present, all sessions used.
    pub twin_bytes: u64,
    /// What the standby holds for the same sessions.
    pub standby_bytes: u64,
    /// The one over the other.
    pub standby_of_twin: f64,
    /// It is a tenth at most.
    pub goal_met: bool,
}

impl MemoryReport {
    pub(super) fn new(
        plan: &MemoryPlan,
        idle: SessionBytes,
        used: SessionBytes,
        twin_bytes: u64,
        standby_bytes: u64,
    ) -> Self {
        let standby_of_twin = (standby_bytes as f64 / twin_bytes.max(1) as f64 * 1e3).round() / 1e3;
        Self {
            sessions: plan.sessions,
            used_bytes: plan.used_bytes,
            idle_session_bytes: idle,
            used_session_bytes: used,
            twin_bytes,
            standby_bytes,
            standby_of_twin,
            goal_met: standby_of_twin <= GOAL_OF_TWIN,
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let (idle, used) = (self.idle_session_bytes, self.used_session_bytes);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "{} sessions, used: {} B of each changed\n  {:<14} {:>10} {:>10}\n  {:<14} {:>10} {:>10}\n  {:<14} {:>10} \
             {:>10}\nstandby {:.1} MiB, a twin VM {:.1} MiB: {:.3} of it (goal {GOAL_OF_TWIN}): {}\n",
            self.sessions,
            self.used_bytes,
            "B per session",
            "owner",
            "standby",
            "idle",
            idle.owner,
            idle.standby,
            "used",
            used.owner,
            used.standby,
            mib(self.standby_bytes),
            mib(self.twin_bytes),
            self.standby_of_twin,
            if self.goal_met { "met" } else { "missed" },
        )
    }
}
