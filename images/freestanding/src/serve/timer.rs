//! When to program the one-shot timer.
//!
//! Deadlines move later with nearly every request (a retransmission timer starts anew), and programming costs 3 µs on a
//! nested host. So a timer that fires no later than needed is left alone: it fires early at most once, and is then set to
//! what is needed by then.

/// Nanoseconds of a tick; the same as the APIC driver's.
pub const TICK_NS: u64 = 128;

/// A one-shot timer that is programmed only when it must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct LazyTimer {
    /// When the timer fires, and how often it had fired when it was set.
    set: Option<(i64, u64)>,
}

impl LazyTimer {
    /// The ticks to program so that the timer fires at `deadline_us`, or `None` if it will fire in time as it is. `fired`
    /// counts how often it has fired so far. A deadline beyond the timer's range (9 minutes) fires early.
    pub fn ticks_for(&mut self, now_us: i64, deadline_us: Option<i64>, fired: u64) -> Option<u32> {
        let deadline_us = deadline_us?;
        if let Some((at, fired_then)) = self.set
            && fired_then == fired
            && at <= deadline_us
        {
            return None;
        }
        let span_us = u64::try_from(deadline_us.saturating_sub(now_us)).unwrap_or(0);
        let ticks = u32::try_from(span_us.saturating_mul(1000) / TICK_NS).unwrap_or(u32::MAX).max(1);
        let reach_us = (u64::from(ticks) * TICK_NS).div_ceil(1000);
        self.set = Some((now_us.saturating_add(i64::try_from(reach_us).unwrap_or(i64::MAX)), fired));
        Some(ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_deadline_leaves_the_timer_alone() {
        let mut timer = LazyTimer::default();
        assert_eq!(timer.ticks_for(0, None, 0), None);
        assert_eq!(timer.ticks_for(1000, Some(1128), 0), Some(1000));
        assert_eq!(timer.ticks_for(1010, Some(5000), 0), None);
        assert_eq!(timer.ticks_for(1010, None, 0), None);
    }

    #[test]
    fn an_earlier_deadline_or_a_spent_timer_programs_it() {
        let mut timer = LazyTimer::default();
        timer.ticks_for(0, Some(30_000), 0);
        assert_eq!(timer.ticks_for(0, Some(128), 0), Some(1000));
        assert_eq!(timer.ticks_for(128, Some(256), 1), Some(1000), "it has fired");
        // It fired a little early by our clock: the rest is programmed, not slept over.
        assert_eq!(timer.ticks_for(255, Some(256), 2), Some(7));
    }

    #[test]
    fn extremes_stay_in_range() {
        let mut timer = LazyTimer::default();
        assert_eq!(timer.ticks_for(10, Some(5), 0), Some(1), "overdue");
        assert_eq!(timer.ticks_for(0, Some(i64::MIN), 1), Some(1));
        assert_eq!(timer.ticks_for(0, Some(i64::MAX), 2), Some(u32::MAX));
        assert_eq!(timer.ticks_for(1, Some(i64::MAX), 2), None, "fires early, then is set again");
        assert_eq!(timer.ticks_for(i64::MAX, Some(i64::MAX), 3), Some(1));
    }
}
