//! Two percentiles of a set of durations, exact (nearest rank).

use serde::Serialize;

/// Median and 99th percentile, in the unit of the values they are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the set is no longer.
    pub p50: f64,
    /// 99 of 100 are no longer.
    pub p99: f64,
}

impl Percentiles {
    /// Of nanoseconds, in units of `unit_ns`, rounded to a hundredth. 0 for an empty set.
    pub fn of_ns(samples: &mut [u64], unit_ns: f64) -> Self {
        samples.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (samples.len() * hundredths).div_ceil(100).saturating_sub(1);
            samples.get(rank).map_or(0.0, |ns| round(*ns as f64 / unit_ns))
        };
        Self { p50: at(50), p99: at(99) }
    }

    /// How much `self` exceeds `base`, in units of `floor`, percentile by percentile.
    pub fn added(&self, base: &Self, floor: &Self) -> Self {
        let ratio = |with: f64, without: f64, unit: f64| if unit > 0.0 { round((with - without) / unit) } else { 0.0 };
        Self { p50: ratio(self.p50, base.p50, floor.p50), p99: ratio(self.p99, base.p99, floor.p99) }
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank_and_ratio() {
        let mut samples: Vec<u64> = (1..=200).map(|n| n * 1_000).rev().collect();
        let all = Percentiles::of_ns(&mut samples, 1e3);
        assert_eq!(all, Percentiles { p50: 100.0, p99: 198.0 });
        assert_eq!(Percentiles::of_ns(&mut [], 1e3), Percentiles::default());
        let base = Percentiles { p50: 40.0, p99: 99.0 };
        let floor = Percentiles { p50: 30.0, p99: 33.0 };
        assert_eq!(all.added(&base, &floor), Percentiles { p50: 2.0, p99: 3.0 });
    }
}
