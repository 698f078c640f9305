//! `ab -k` keeps its connections alive over the kill of a node.

use super::cells_run_here;
use super::foreign_program::{ForeignProgram, is_here};
use super::tidy::Directory;
use super::victim::{busiest_node, seconds_since_1970};
use escape::cell::{CellPlan, LocalCell};
use escape::drill::{Cell, Fault};
use std::time::Duration;

const CONNECTIONS: u32 = 16;
/// How long the load runs, and how many requests it may make in that time at most.
const LOAD_S: &str = "8";
const REQUESTS_MAX: &str = "400000";
const KILL_AFTER: Duration = Duration::from_secs(3);
const SETTLE_MAX: Duration = Duration::from_secs(20);
const END_MAX: Duration = Duration::from_secs(40);

/// No failed request, no other status than 2xx, every reply on a connection that stays.
pub fn has_no_failed_request() {
    if !cells_run_here("ab") || !is_here("ab", "load by ab") {
        return;
    }
    let directory = Directory::new("ab");
    let times = directory.file("times").display().to_string();
    let mut cell = LocalCell::start(CellPlan::new(2 * CONNECTIONS)).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let url = format!("http://{}/bytes?n=1000", cell.service_addresses().http);
    let connections = CONNECTIONS.to_string();
    let arguments = ["-k", "-q", "-c", &connections, "-t", LOAD_S, "-n", REQUESTS_MAX, "-g", &times, &url];
    let mut ab = ForeignProgram::start(&cell, "ab", &arguments);
    std::thread::sleep(KILL_AFTER);
    let (node, slices) = busiest_node(&mut cell);
    cell.inject(node, Fault::Kill).unwrap();
    let killed_at = seconds_since_1970();
    ab.wait_for("a second of load after the kill", SETTLE_MAX, |_| {
        (seconds_since_1970() > killed_at + 1).then_some(())
    });
    let (out, complaints) = ab.end(END_MAX);
    let said = String::from_utf8_lossy(&out).into_owned();
    cell.shutdown();
    let told = |name: &str| value_of(&said, name).unwrap_or_else(|| panic!("no {name:?} in {said} {complaints}"));
    let later = requests_after(&std::fs::read_to_string(&times).unwrap(), killed_at + 1);
    println!("node {node} with {slices} slices killed: {} requests, {later} begun later", told("Complete requests:"));
    assert_eq!(told("Failed requests:"), 0, "{said}");
    assert_eq!(value_of(&said, "Non-2xx responses:").unwrap_or(0), 0, "{said}");
    assert_eq!(told("Keep-Alive requests:"), told("Complete requests:"), "every connection stays: {said}");
    assert!(slices > 0, "the killed node served some of the connections");
    assert!(later > u64::from(CONNECTIONS), "requests after the kill: {said}");
}

fn value_of(said: &str, name: &str) -> Option<u64> {
    let rest = said.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Requests begun later than in this second, from the file of `ab -g`: date, seconds since 1970, times, divided by tabs.
fn requests_after(times: &str, second: u64) -> u64 {
    let begun = times.lines().skip(1).filter_map(|line| line.split('\t').nth(1)?.parse::<u64>().ok());
    begun.filter(|at| *at > second).count() as u64
}
