//! Logs that a hostile peer cannot flood.

use std::time::{Duration, Instant};

/// Lets one message through per interval and counts the others.
#[derive(Debug)]
pub struct LogLimit {
    every: Duration,
    last: Option<Instant>,
    suppressed: u64,
}

impl LogLimit {
    /// At most one message per `every`.
    pub const fn new(every: Duration) -> Self {
        Self { every, last: None, suppressed: 0 }
    }

    /// `Some(suppressed)`: log now, and say how many were left out since the last one. `None`: do not log.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.every) {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_per_interval_and_the_rest_is_counted() {
        let mut limit = LogLimit::new(Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(limit.pass(start), Some(0));
        for _ in 0..5 {
            assert_eq!(limit.pass(start), None);
        }
        assert_eq!(limit.pass(start + Duration::from_secs(1)), Some(5));
    }
}
