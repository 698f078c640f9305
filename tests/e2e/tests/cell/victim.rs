//! Which node a fault is for, when it happens, and what a node takes.

use escape::cell::LocalCell;
use std::time::SystemTime;

/// The living node with the most slices, and how many.
pub fn busiest_node(cell: &mut LocalCell) -> (u16, u64) {
    let slices = |cell: &mut LocalCell, node| cell.status(node).ok().map(|status| (node, status.slices));
    let nodes: Vec<(u16, u64)> = (0..3).filter_map(|node| slices(cell, node)).collect();
    nodes.into_iter().max_by_key(|(_, slices)| *slices).unwrap_or_else(|| panic!("no node answers"))
}

/// Memory that a node's process has in use, KiB; guest memory that was touched counts.
pub fn resident_kib(cell: &LocalCell, node: u16) -> u64 {
    let id = cell.process_id(node).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_else(|| panic!("{status}"));
    line.trim().trim_end_matches(" kB").parse().unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// What `time()` says.
pub fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
