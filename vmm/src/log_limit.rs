//! Keeps a guest from filling the log.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Lines allowed per interval and call site.
const LINES_PER_INTERVAL: u64 = 5;
const INTERVAL_S: u64 = 10;

/// Decides which occurrences of one event are worth a line.
#[derive(Debug)]
pub struct LogLimit {
    start: Instant,
    /// `interval << 16 | lines of it`.
    state: AtomicU64,
}

impl LogLimit {
    /// A fresh limit.
    pub fn new() -> Self {
        Self { start: Instant::now(), state: AtomicU64::new(0) }
    }

    /// Whether this occurrence may be logged: the first few of every ten seconds.
    pub fn allow(&self) -> bool {
        let interval = self.start.elapsed().as_secs() / INTERVAL_S;
        let mut allowed = false;
        let _ = self.state.fetch_update(Relaxed, Relaxed, |state| {
            let lines = if state >> 16 == interval { state & 0xffff } else { 0 };
            allowed = lines < LINES_PER_INTERVAL;
            allowed.then_some(interval << 16 | (lines + 1))
        });
        allowed
    }
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_gives_a_few_lines() {
        let limit = LogLimit::new();
        let lines = (0..1000).filter(|_| limit.allow()).count();
        assert!((1..=2 * LINES_PER_INTERVAL as usize).contains(&lines), "{lines}");
    }
}
