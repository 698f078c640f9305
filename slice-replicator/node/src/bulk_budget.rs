//! The share of the link that full copies for new standbys may take.

/// How far copies may run ahead of their share, nanoseconds: more than two ticks of the data thread, because a pause ends
/// with a tick.
const AHEAD_NS: u64 = 10_000_000;

/// A token bucket: what full copies have sent, as time that their share of the link needs for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BulkBudget {
    /// The share, megabits per second times 100.
    share: u64,
    /// When the share has carried everything that was sent so far, nanoseconds.
    carried_at: u64,
}

impl BulkBudget {
    /// So many percent of a link of so many megabits per second.
    pub(crate) fn new(link_mbit: u32, percent: u8) -> Self {
        Self { share: (u64::from(link_mbit) * u64::from(percent)).max(1), carried_at: 0 }
    }

    /// Full copies of so many bytes went out. `Some`: no further ones before this time, microseconds; what went beyond the
    /// share is made up for then.
    pub(crate) fn spend(&mut self, now_us: u64, bytes: usize) -> Option<u64> {
        let now = now_us.saturating_mul(1000);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        // 8 bits a byte, 1,000 ns for a bit at 1 Mbit/s, 100 percent.
        let needed = bytes.saturating_mul(800_000) / self.share;
        self.carried_at = self.carried_at.max(now).saturating_add(needed);
        let resume = self.carried_at.saturating_sub(AHEAD_NS);
        (resume > now).then_some(resume.div_ceil(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_the_share_is_kept_and_used() {
        // A quarter of 100 Mbit/s: 3,125 bytes a millisecond.
        let mut budget = BulkBudget::new(100, 25);
        let (mut now, mut sent) = (1_000_000, 0);
        while now < 11_000_000 {
            sent += 70_000;
            // The data thread looks again at its next tick.
            now = budget.spend(now, 70_000).unwrap_or(now).next_multiple_of(4_000);
        }
        let share = 3_125 * 10_000;
        assert!((share..share + share / 50).contains(&sent), "{sent} of {share}");
    }

    #[test]
    fn what_an_idle_link_did_not_carry_is_not_saved_up() {
        let mut budget = BulkBudget::new(100, 25);
        assert_eq!(budget.spend(0, 31_250), None, "10 ms ahead");
        assert_eq!(budget.spend(0, 3_125), Some(1_000));
        assert_eq!(budget.spend(60_000_000, 31_250), None);
        assert_eq!(budget.spend(60_000_000, 3_125), Some(60_001_000));
    }

    #[test]
    fn a_large_copy_is_made_up_for() {
        let mut budget = BulkBudget::new(10, 1);
        // 12.5 bytes a millisecond; the largest slice takes 21 s.
        assert_eq!(budget.spend(0, 262_144), Some(262_144 * 80 - 10_000));
    }
}
