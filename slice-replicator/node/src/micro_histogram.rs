//! A histogram of short durations that costs one addition to fill.

use serde_json::{Value, json};

/// Durations below this have a bucket of their own each; longer ones share the last, microseconds.
const LINEAR_US: usize = 2048;

/// Counts durations by microsecond.
#[derive(Debug)]
pub(crate) struct MicroHistogram {
    buckets: Box<[u64]>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl MicroHistogram {
    /// Adds a duration.
    pub(crate) fn record(&mut self, us: u64) {
        let bucket = usize::try_from(us).map_or(LINEAR_US, |us| us.min(LINEAR_US));
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    /// The duration that this share (0 to 1) of all does not exceed; beyond the last bucket, the longest.
    fn quantile(&self, share: f64) -> u64 {
        let rank = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (us, count) in (0u64..).zip(&self.buckets) {
            seen += count;
            if seen >= rank && us < LINEAR_US as u64 {
                return us;
            }
        }
        self.max_us
    }

    /// Count, mean, p50, p99 and the longest, and begins anew.
    pub(crate) fn take(&mut self) -> Value {
        let taken = std::mem::take(self);
        let mean = if taken.count == 0 { 0.0 } else { taken.sum_us as f64 / taken.count as f64 };
        json!({
            "count": taken.count,
            "mean_us": (mean * 10.0).round() / 10.0,
            "p50_us": taken.quantile(0.5),
            "p99_us": taken.quantile(0.99),
            "max_us": taken.max_us,
        })
    }
}

impl Default for MicroHistogram {
    fn default() -> Self {
        Self { buckets: vec![0; LINEAR_US + 1].into_boxed_slice(), count: 0, sum_us: 0, max_us: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank_and_taking_begins_anew() {
        let mut h = MicroHistogram::default();
        (1..=100).for_each(|us| h.record(us));
        h.record(1_000_000);
        let taken = h.take();
        assert_eq!((&taken["count"], &taken["p50_us"], &taken["p99_us"]), (&json!(101), &json!(51), &json!(100)));
        assert_eq!(taken["max_us"], json!(1_000_000));
        assert_eq!(h.take()["count"], json!(0));
        h.record(5_000);
        assert_eq!(h.take()["p50_us"], json!(5_000), "beyond the buckets the longest is told");
    }
}
