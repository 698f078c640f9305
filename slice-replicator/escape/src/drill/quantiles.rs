//! Quantiles of a set of waits, exact (nearest rank).

use serde::Serialize;

use super::timeline::three_digits;

/// Milliseconds; all 0 for an empty set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of the set is no longer.
    #[serde(serialize_with = "three_digits")]
    pub p50: f64,
    /// 99 of 100 are no longer.
    #[serde(serialize_with = "three_digits")]
    pub p99: f64,
    /// The longest.
    #[serde(serialize_with = "three_digits")]
    pub max: f64,
}

impl Quantiles {
    /// Of waits in microseconds.
    pub fn of_us(mut waits_us: Vec<u64>) -> Self {
        waits_us.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (waits_us.len() * hundredths).div_ceil(100).saturating_sub(1);
            waits_us.get(rank).map_or(0.0, |&us| us as f64 / 1e3)
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let quantiles = Quantiles::of_us((1..=200).map(|n| n * 1_000).rev().collect());
        assert_eq!(quantiles, Quantiles { p50: 100.0, p99: 198.0, max: 200.0 });
        assert_eq!(Quantiles::of_us(vec![]), Quantiles::default());
        assert_eq!(Quantiles::of_us(vec![7]).p50, 0.007);
    }
}
