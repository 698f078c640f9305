//! The generator's time: microseconds since its start on CLOCK_MONOTONIC.

use std::time::Instant;

/// Turns instants into microseconds of one run and back.
#[derive(Clone, Copy, Debug)]
pub struct LoadClock {
    origin: Instant,
}

impl LoadClock {
    /// A clock that shows 0 now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        self.at_us(Instant::now())
    }

    /// Microseconds from the start to `instant` (0 if it lies before the start).
    pub fn at_us(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}
