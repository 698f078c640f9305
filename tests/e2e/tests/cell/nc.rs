//! `nc` on the stream port: both directions carry the pattern, whole, over the kill of the node that serves it.

use super::cells_run_here;
use super::foreign_program::{ForeignProgram, is_here};
use super::victim::busiest_node;
use escape::cell::{CellPlan, LocalCell};
use escape::drill::{Cell, Fault};
use escape::load::pattern;
use std::io::Write;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SETTLE_MAX: Duration = Duration::from_secs(20);
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Bytes that went each way before the kill, and that go each way after it.
const BYTES: u64 = 1 << 20;
/// Bytes said at once, and the pause after them: the server sends as fast as it can, the client need not.
const BLOCK: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(4);
/// Bytes of the server's trailer: received, wrong; u64 little-endian each.
const TRAILER: usize = 16;

/// Bytes both ways, compared with the pattern; the server tells how many it received and how many were wrong.
pub fn streams_over_a_kill() {
    if !cells_run_here("nc") || !is_here("nc", "the stream port by nc") {
        return;
    }
    let mut cell = LocalCell::start(CellPlan::new(20)).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let service = cell.service_addresses().stream;
    // -N: ends its direction when standard input ends; -q is not set, so it reads until the server ends its own.
    let arguments = ["-N".to_owned(), service.ip().to_string(), service.port().to_string()];
    let mut nc = ForeignProgram::start(&cell, "nc", &arguments);
    let stdin = nc.stdin().unwrap();
    let (over, said) = (AtomicBool::new(false), AtomicU64::new(0));
    let node = std::thread::scope(|scope| {
        scope.spawn(|| say_pattern(stdin, &over, &said));
        let _over = Over(&over);
        both_ways(&mut nc, &said);
        let (node, slices) = busiest_node(&mut cell);
        assert_eq!(slices, 1, "nc is the only client");
        cell.inject(node, Fault::Kill).unwrap();
        both_ways(&mut nc, &said);
        node
    });
    let (heard, complaints) = nc.end(WAIT_MAX);
    cell.shutdown();
    let said = said.load(Ordering::Relaxed);
    assert!(heard.len() > TRAILER, "{complaints}");
    let (bytes, trailer) = heard.split_at(heard.len() - TRAILER);
    assert_eq!(pattern::count_wrong(0, bytes), 0, "what nc received is the pattern");
    let words: Vec<u64> = trailer.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    assert_eq!(words, [said, 0], "bytes that the server received, and how many of them were wrong");
    println!("node {node} killed: {said} bytes to the server and {} from it, all of them the pattern", bytes.len());
}

/// Ends the client's direction when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until as many bytes more went each way.
fn both_ways(nc: &mut ForeignProgram, said: &AtomicU64) {
    let (heard_before, said_before) = (nc.out_len(), said.load(Ordering::Relaxed));
    nc.wait_for("bytes both ways", WAIT_MAX, |nc| {
        let heard = nc.out_len() - heard_before;
        (heard >= BYTES && said.load(Ordering::Relaxed) - said_before >= BYTES).then_some(())
    });
}

fn say_pattern(mut stdin: ChildStdin, over: &AtomicBool, said: &AtomicU64) {
    let mut block = vec![0; BLOCK];
    while !over.load(Ordering::Relaxed) {
        let at = said.load(Ordering::Relaxed);
        pattern::fill(at, &mut block);
        // It fails if nc has ended, which the main thread tells better.
        if stdin.write_all(&block).is_err() {
            return;
        }
        said.store(at + block.len() as u64, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
}
