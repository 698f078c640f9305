//! How long to poll before halting.
//!
//! Waking from a halt costs 30–80 µs on a nested host, so a turn that is about to come is worth waiting for; but polling
//! takes the processor from the VMM's thread where cores are few. The span adapts like Linux's haltpoll: it grows when a
//! halt was so short that polling would have caught its end, and shrinks when it was long.

/// Longest polling after the last work, microseconds.
pub const POLL_US_MAX: i64 = 20;
/// Where growth starts.
const POLL_US_START: i64 = 5;
/// A halt shorter than this counts as one that polling could have replaced: most of it was the cost of waking.
const SHORT_HALT_US: i64 = 200;

/// The decision to poll or to halt.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    last_work_us: i64,
    poll_us: i64,
}

impl Idle {
    /// A loop that has just worked.
    pub const fn new(now_us: i64) -> Self {
        Self { last_work_us: now_us, poll_us: POLL_US_MAX }
    }

    /// A turn had work.
    pub fn worked(&mut self, now_us: i64) {
        self.last_work_us = now_us;
    }

    /// The loop should look again instead of halting.
    pub fn keeps_polling(&self, now_us: i64) -> bool {
        now_us.saturating_sub(self.last_work_us) < self.poll_us
    }

    /// A halt from `since_us` to `now_us` has ended.
    pub fn woke(&mut self, since_us: i64, now_us: i64) {
        let short = now_us.saturating_sub(since_us) < SHORT_HALT_US;
        self.poll_us = if short { (self.poll_us * 2).clamp(POLL_US_START, POLL_US_MAX) } else { self.poll_us / 2 };
    }

    /// The span now, microseconds.
    pub fn poll_us(&self) -> i64 {
        self.poll_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_halts_end_the_polling_and_short_ones_bring_it_back() {
        let mut idle = Idle::new(0);
        assert!(idle.keeps_polling(POLL_US_MAX - 1));
        assert!(!idle.keeps_polling(POLL_US_MAX));
        for _ in 0..10 {
            idle.woke(0, 10_000);
        }
        assert_eq!(idle.poll_us(), 0);
        assert!(!idle.keeps_polling(0));
        idle.woke(0, 50);
        assert_eq!(idle.poll_us(), POLL_US_START);
        for _ in 0..10 {
            idle.woke(0, 50);
        }
        assert_eq!(idle.poll_us(), POLL_US_MAX);
        idle.worked(1000);
        assert!(idle.keeps_polling(1010));
    }
}
