//! The guest's clock: RDTSC, scaled to microseconds since boot.

use core::arch::x86_64::_rdtsc;

/// Fraction bits of [`Clock::us_per_tick`].
const SHIFT: u32 = 48;

/// Monotone, local to this guest, starts near 0.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    /// Microseconds of a tick, times 2^48.
    us_per_tick: u64,
}

impl Clock {
    /// A clock that starts now. `tsc_khz` is the frequency of RDTSC; `None` below 1 MHz, which no machine has.
    pub fn start(tsc_khz: u64) -> Option<Self> {
        Self::since(ticks(), tsc_khz)
    }

    fn since(start: u64, tsc_khz: u64) -> Option<Self> {
        (tsc_khz >= 1000).then(|| Self { start, us_per_tick: (1000 << SHIFT) / tsc_khz })
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> i64 {
        self.at(ticks())
    }

    fn at(&self, ticks: u64) -> i64 {
        // Wrapping: a TSC that was set back shows as a huge value, which the clamp keeps from becoming negative.
        let us = (u128::from(ticks.wrapping_sub(self.start)) * u128::from(self.us_per_tick)) >> SHIFT;
        i64::try_from(us).unwrap_or(i64::MAX)
    }
}

fn ticks() -> u64 {
    // SAFETY: RDTSC has no precondition (CR4.TSD is clear).
    unsafe { _rdtsc() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn scales_without_drift_for_a_year() {
        for khz in [1000, 2_445_432, 3_999_999, 5_000_000] {
            let clock = Clock::since(17, khz).unwrap();
            for us in [0i64, 1, 999_999, 365 * 86_400 * 1_000_000] {
                let ticks = 17 + (us as u128 * khz as u128 / 1000) as u64;
                let error = (clock.at(ticks) - us).abs();
                assert!(error <= 1 + us / 1_000_000_000, "{khz} kHz, {us} us: off by {error}");
            }
        }
    }

    #[test]
    fn nonsense_frequency_is_refused() {
        assert!(Clock::since(0, 0).is_none());
        assert!(Clock::since(0, 999).is_none());
    }

    #[test]
    fn runs_forward() {
        let clock = Clock::start(1_000_000).unwrap();
        let first = clock.now_us();
        assert!(first >= 0 && clock.now_us() >= first);
    }
}
