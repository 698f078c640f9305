//! Python's `http.client` counts on one connection over the kills of two nodes, one after the other.

use super::cells_run_here;
use super::foreign_program::{ForeignProgram, is_here};
use escape::cell::{CellPlan, LocalCell};
use escape::drill::{Cell, Fault};
use std::time::Duration;

/// Pause between two increments, s.
const PAUSE: &str = "0.003";
const SETTLE_MAX: Duration = Duration::from_secs(20);
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Increments that are seen before each kill and after the last.
const INCREMENTS: u64 = 50;

/// The script checks the count itself; here it is seen that two kills came between.
pub fn counts_over_two_kills() {
    if !cells_run_here("Python") || !is_here("python3", "Python's http.client") {
        return;
    }
    let mut cell = LocalCell::start(CellPlan::new(20)).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let service = cell.service_addresses().http;
    let (ip, port) = (service.ip().to_string(), service.port().to_string());
    let arguments = ["-c", include_str!("keep_alive.py"), &ip, &port, PAUSE];
    let mut python = ForeignProgram::start(&cell, "python3", &arguments);
    let mut served = Vec::new();
    for _ in 0..2 {
        let seen = last_line(&python).map_or(0, |line| line.count);
        let here = python.wait_for("increments", WAIT_MAX, |p| {
            last_line(p).filter(|line| line.count >= seen + INCREMENTS && !served.contains(&line.node))
        });
        served.push(here.node);
        cell.inject(here.node, Fault::Kill).unwrap();
        python.wait_for("another node", WAIT_MAX, |p| last_line(p).filter(|line| line.node != here.node));
        cell.wait_reprotected(SETTLE_MAX).unwrap();
        cell.heal(here.node, Fault::Kill).unwrap();
        cell.wait_ready(SETTLE_MAX).unwrap();
    }
    let seen = last_line(&python).map_or(0, |line| line.count);
    let last = python.wait_for("increments", WAIT_MAX, |p| last_line(p).filter(|l| l.count >= seen + INCREMENTS));
    python.end(WAIT_MAX);
    cell.shutdown();
    println!(
        "{} increments on one connection over the kills of nodes {served:?}, longest {} ms",
        last.count, last.longest_ms
    );
}

/// What the script says of itself.
struct Line {
    node: u16,
    count: u64,
    longest_ms: u64,
}

fn last_line(python: &ForeignProgram) -> Option<Line> {
    let text = python.text();
    let whole = text.rsplit_once('\n')?.0;
    let line: serde_json::Value = serde_json::from_str(whole.lines().last()?).unwrap();
    let number = |name: &str| line[name].as_u64().unwrap_or_else(|| panic!("no {name} in {line}"));
    Some(Line {
        node: u16::try_from(number("node")).unwrap(),
        count: number("count"),
        longest_ms: number("longest_ms"),
    })
}
