//! What checkpoints put on the link, against the lines that they bring.
//!
//! The ratio of one checkpoint is (bytes − 128) ÷ (64 × changed lines): 128 bytes are allowed for its head.

use serde_json::{Value, json};

/// Bytes of a line.
const LINE: u64 = 64;
/// Bytes that a checkpoint may have beside its lines.
const HEAD_BYTES: u64 = 128;
/// Ratios are counted by hundredths up to 10; larger ones share the last bucket.
const BUCKETS: usize = 1001;

/// Counts checkpoints by ratio.
#[derive(Debug)]
pub(crate) struct WireRatios {
    buckets: Box<[u64]>,
    checkpoints: u64,
    lines: u64,
    bytes: u64,
}

impl WireRatios {
    /// A checkpoint of `lines` changed lines went out as a message of `bytes` bytes.
    pub(crate) fn record(&mut self, lines: u64, bytes: u64) {
        self.checkpoints += 1;
        self.lines += lines;
        self.bytes += bytes;
        let hundredths = match (bytes.saturating_sub(HEAD_BYTES), LINE * lines) {
            (0, _) => 0,
            (_, 0) => u64::MAX,
            (over, base) => (over * 100).div_ceil(base),
        };
        let bucket = usize::try_from(hundredths).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1));
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
    }

    /// The ratio that this many of 100 checkpoints do not exceed; 10 also stands for more.
    fn ratio(&self, percent: u64) -> f64 {
        let rank = (self.checkpoints * percent).div_ceil(100);
        let mut seen = 0;
        for (hundredths, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return hundredths as f64 / 100.0;
            }
        }
        0.0
    }

    /// The figures since the last call.
    pub(crate) fn take(&mut self) -> Value {
        let taken = std::mem::take(self);
        json!({
            "checkpoints": taken.checkpoints,
            "lines_changed": taken.lines,
            "bytes_sent": taken.bytes,
            "ratio_p50": taken.ratio(50),
            "ratio_p99": taken.ratio(99),
            "ratio_max": taken.ratio(100),
        })
    }
}

impl Default for WireRatios {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into_boxed_slice(), checkpoints: 0, lines: 0, bytes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heads_worth_is_free_and_the_rest_is_measured_by_lines() {
        let mut ratios = WireRatios::default();
        (0..98).for_each(|_| ratios.record(10, 128 + 640));
        ratios.record(10, 128 + 641);
        ratios.record(1, 128 + 192);
        let taken = ratios.take();
        assert_eq!((&taken["ratio_p50"], &taken["ratio_p99"]), (&json!(1.0), &json!(1.01)));
        assert_eq!((&taken["ratio_max"], &taken["lines_changed"]), (&json!(3.0), &json!(991)));
        assert_eq!(ratios.take()["checkpoints"], json!(0));
        ratios.record(0, 100);
        ratios.record(0, 129);
        let taken = ratios.take();
        assert_eq!((&taken["ratio_p50"], &taken["ratio_max"]), (&json!(0.0), &json!(10.0)));
    }
}
