//! `curl` follows `GET /events` over the kill of the node that sends them.

use super::cells_run_here;
use super::foreign_program::{ForeignProgram, is_here};
use escape::cell::{CellPlan, LocalCell};
use escape::drill::{Cell, Fault};
use std::time::Duration;

const SETTLE_MAX: Duration = Duration::from_secs(20);
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Ticks before the kill, and in all.
const BEFORE: usize = 20;
const COUNT: usize = 100;
const EVERY_MS: u64 = 20;

/// Ticks 1 to [`COUNT`], none lost or doubled, from two nodes.
pub fn go_on_after_a_kill() {
    if !cells_run_here("events") || !is_here("curl", "events") {
        return;
    }
    let mut cell = LocalCell::start(CellPlan::new(20)).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let service = cell.service_addresses().http;
    let url = format!("http://{service}/events?every_ms={EVERY_MS}&count={COUNT}");
    let mut curl = ForeignProgram::start(&cell, "curl", &["-sSN", &url]);
    let before = curl.wait_for("ticks", WAIT_MAX, |curl| {
        let ticks = ticks(&curl.text());
        (ticks.len() >= BEFORE).then_some(ticks)
    });
    let (_, node) = before[0];
    cell.inject(node, Fault::Kill).unwrap();
    let (out, complaints) = curl.end(WAIT_MAX);
    cell.shutdown();
    let ticks = ticks(&String::from_utf8(out).unwrap());
    let numbers: Vec<u64> = ticks.iter().map(|(number, _)| *number).collect();
    let wanted: Vec<u64> = (1..=COUNT as u64).collect();
    assert_eq!(numbers, wanted, "none lost, none doubled: {complaints}");
    let (_, last) = ticks[COUNT - 1];
    assert_ne!(last, node, "the last tick is another node's");
    println!("{COUNT} ticks, the first of node {node}, the last of node {last}");
}

/// Number and node of each whole line.
fn ticks(text: &str) -> Vec<(u64, u16)> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let tick = |line: &str| {
        let tick: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        (tick["tick"].as_u64().unwrap(), u16::try_from(tick["node"].as_u64().unwrap()).unwrap())
    };
    whole.lines().map(tick).collect()
}
