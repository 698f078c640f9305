//! How fast connections are accepted.

use std::time::{Duration, Instant};

/// A token bucket.
#[derive(Debug)]
pub(crate) struct AcceptRate {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl AcceptRate {
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second.max(1)), burst, tokens: burst, at: now }
    }

    /// Takes one token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// When the next token will be there.
    pub(crate) fn next(&self) -> Instant {
        self.at + Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut rate = AcceptRate::new(10, 3, start);
        assert_eq!((0..10).filter(|_| rate.take(start)).count(), 3);
        assert!(!rate.take(start + Duration::from_millis(90)));
        assert!(rate.next() <= start + Duration::from_millis(101));
        assert!(rate.take(start + Duration::from_millis(101)));
        let later = start + Duration::from_secs(100);
        assert_eq!((0..10).filter(|_| rate.take(later)).count(), 3);
    }
}
