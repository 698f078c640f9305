//! `wrk` keeps 64 connections busy while a node is killed, and has no socket error to tell.

use super::cells_run_here;
use super::foreign_program::{ForeignProgram, is_here};
use super::tidy::Directory;
use super::victim::{busiest_node, seconds_since_1970};
use escape::cell::{CellPlan, LocalCell};
use escape::drill::{Cell, Fault};
use std::time::Duration;

const CONNECTIONS: u32 = 64;
/// How long the load runs; a whole number of seconds, as wrk wants it.
const LOAD_S: u64 = 8;
const KILL_AFTER: Duration = Duration::from_secs(3);
const SETTLE_MAX: Duration = Duration::from_secs(20);
const END_MAX: Duration = Duration::from_secs(30);

/// Zero connect, read, write and timeout errors, and replies long after the kill.
pub fn has_no_socket_errors() {
    if !cells_run_here("wrk") || !is_here("wrk", "load by wrk") {
        return;
    }
    let directory = Directory::new("wrk");
    let script = directory.file("count.lua");
    std::fs::write(&script, include_str!("wrk.lua")).unwrap();
    let mut cell = LocalCell::start(CellPlan::new(2 * CONNECTIONS)).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let url = format!("http://{}/session", cell.service_addresses().http);
    let [connections, load] = [format!("-c{CONNECTIONS}"), format!("-d{LOAD_S}s")];
    let script = script.display().to_string();
    let mut wrk = ForeignProgram::start(&cell, "wrk", &["-t2", &connections, &load, "-s", &script, &url]);
    std::thread::sleep(KILL_AFTER);
    let (node, slices) = busiest_node(&mut cell);
    cell.inject(node, Fault::Kill).unwrap();
    let killed_at = seconds_since_1970();
    // Ended too early is a failure too: the load is to go on.
    wrk.wait_for("a second of load after the kill", SETTLE_MAX, |_| {
        (seconds_since_1970() > killed_at + 1).then_some(())
    });
    let (out, complaints) = wrk.end(END_MAX);
    let said = String::from_utf8_lossy(&out).into_owned();
    cell.shutdown();
    let report = Report::of(&said);
    println!("node {node} with {slices} slices killed: {} replies, {} later", report.all, report.after(killed_at + 1));
    assert!(!said.contains("Socket errors"), "{said} {complaints}");
    assert_eq!(report.errors, "connect=0 read=0 write=0 timeout=0 status=0", "{said}");
    assert_eq!(report.refused, 0, "{said}");
    assert!(slices > 0, "the killed node served some of the connections");
    assert!(report.after(killed_at + 1) > u64::from(CONNECTIONS), "replies after the kill: {said}");
}

/// What `wrk.lua` told.
struct Report {
    errors: String,
    refused: u64,
    all: u64,
    by_second: Vec<(u64, u64)>,
}

impl Report {
    fn of(said: &str) -> Self {
        let lines = |word: &'static str| said.lines().filter_map(move |line| line.strip_prefix(word));
        let number = |text: &str| text.parse::<u64>().unwrap_or_else(|e| panic!("{e}: {said}"));
        let by_second: Vec<(u64, u64)> = lines("second ")
            .map(|rest| rest.split_once(' ').unwrap_or_else(|| panic!("{said}")))
            .map(|(second, count)| (number(second), number(count)))
            .collect();
        Self {
            errors: lines("errors ").next().unwrap_or_else(|| panic!("no summary: {said}")).into(),
            refused: lines("refused ").map(number).sum(),
            all: by_second.iter().map(|(_, count)| count).sum(),
            by_second,
        }
    }

    /// Replies later than in this second.
    fn after(&self, second: u64) -> u64 {
        self.by_second.iter().filter(|(at, _)| *at > second).map(|(_, count)| count).sum()
    }
}
