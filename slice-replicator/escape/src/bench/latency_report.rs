//! The figures of `escape bench latency`.

use super::percentiles::Percentiles;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;

/// Goal for what slices add, in floors, p50.
pub const GOAL_P50: f64 = 1.5;
/// The same for p99.
pub const GOAL_P99: f64 = 3.0;

/// Bytes on the replication link (before encryption), measured while warming up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WireSizes {
    /// Mean checkpoint message.
    pub checkpoint: usize,
    /// Mean acknowledgement message.
    pub acknowledgement: usize,
    /// Checkpoints that one request needs.
    pub checkpoints_per_request: f64,
}

/// One number of changed bytes.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyCase {
    /// Bytes of the session that each request changes.
    pub changed_bytes: usize,
    /// Requests of each kind.
    pub requests: usize,
    /// Ping-pong of these sizes between the two nodes' namespaces, microseconds.
    pub floor_us: Percentiles,
    /// Requests without replication, microseconds.
    pub none_us: Percentiles,
    /// Requests with it, microseconds.
    pub slice_us: Percentiles,
    /// (slice − none) / floor: p50 of p50s, p99 of p99s.
    pub added_over_floor: Percentiles,
    /// Sizes that the floor used.
    pub wire_bytes: WireSizes,
    /// Times of the steps inside the node without replication.
    pub none_stages: Value,
    /// The same inside the owner.
    pub owner_stages: Value,
    /// The same inside the standby.
    pub standby_stages: Value,
}

impl LatencyCase {
    /// Whether both goals are met.
    pub fn goal_met(&self) -> bool {
        self.added_over_floor.p50 <= GOAL_P50 && self.added_over_floor.p99 <= GOAL_P99
    }
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyReport {
    /// Requests of one kind before the next kind has its turn.
    pub block: usize,
    /// CPUs of the data threads; empty: the kernel chose.
    pub cpus: Vec<u16>,
    /// One per number of changed bytes.
    pub cases: Vec<LatencyCase>,
}

impl LatencyReport {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for case in &self.cases {
            // Writing to a String cannot fail.
            let _ = tell_case(&mut text, case);
        }
        text
    }
}

fn tell_case(text: &mut String, case: &LatencyCase) -> std::fmt::Result {
    let sizes = &case.wire_bytes;
    writeln!(
        text,
        "{} B changed per request, {} requests of each kind; on the link {} B there, {} B back, {:.2} checkpoints per request",
        case.changed_bytes, case.requests, sizes.checkpoint, sizes.acknowledgement, sizes.checkpoints_per_request
    )?;
    writeln!(text, "  {:<44} {:>9} {:>9}", "", "p50 µs", "p99 µs")?;
    for (name, value) in [("floor", case.floor_us), ("none", case.none_us), ("slice", case.slice_us)] {
        writeln!(text, "  {name:<44} {:>9.1} {:>9.1}", value.p50, value.p99)?;
    }
    for (name, stages, key) in [
        ("  none:  frame to the guest → its answer", &case.none_stages, "guest"),
        ("  slice: frame to the guest → its answer", &case.owner_stages, "guest"),
        ("  slice: answer taken → checkpoint staged", &case.owner_stages, "capture"),
        ("  slice: checkpoint staged → acknowledged", &case.owner_stages, "commit"),
        ("    of it the standby's work", &case.standby_stages, "apply"),
        ("  slice: answer taken → released", &case.owner_stages, "hold"),
    ] {
        let figure = |which: &str| stages.pointer(&format!("/{key}/{which}")).and_then(Value::as_f64).unwrap_or(0.0);
        writeln!(text, "  {name:<44} {:>9.0} {:>9.0}", figure("p50_us"), figure("p99_us"))?;
    }
    let goal = if case.goal_met() { "met" } else { "missed" };
    let added = case.added_over_floor;
    writeln!(
        text,
        "  added: {:.2} floors at p50 (goal {GOAL_P50}), {:.2} at p99 (goal {GOAL_P99}): {goal}\n",
        added.p50, added.p99
    )
}
