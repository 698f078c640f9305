//! What the kernel knows of this process. Read when somebody asks, by the thread that answers.

use crate::{Metric, Reading};
use rustix::time::{ClockId, clock_gettime};

/// Adds processor time and memory of this process.
pub(crate) fn add_to(reading: &mut Reading) {
    reading.set(Metric::ProcessCpu, processor_seconds());
    if let Some(bytes) = resident_bytes() {
        reading.count(Metric::ProcessResident, bytes);
    }
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_memory_and_time_goes_on() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        let before = processor_seconds();
        let sum = (0..10_000_000u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        assert!(before > 0.0 && processor_seconds() > before, "{sum}");
    }
}
