//! How many slices may be poisoned before the guest as a whole is suspect.

/// Poisonings allowed within [`WINDOW_US`].
pub const POISONINGS_MAX: usize = 64;
/// A minute.
pub const WINDOW_US: i64 = 60_000_000;

/// The times of the last [`POISONINGS_MAX`] poisonings.
#[derive(Clone, Copy, Debug)]
pub struct PoisonBudget {
    times_us: [Option<i64>; POISONINGS_MAX],
    next: usize,
}

impl PoisonBudget {
    /// A full budget.
    pub const fn new() -> Self {
        Self { times_us: [None; POISONINGS_MAX], next: 0 }
    }

    /// Takes one poisoning from the budget; false if it is the 65th within a minute.
    pub fn take(&mut self, now_us: i64) -> bool {
        let Some(oldest) = self.times_us.get_mut(self.next) else { return false };
        if oldest.is_some_and(|time| now_us.saturating_sub(time) < WINDOW_US) {
            return false;
        }
        *oldest = Some(now_us);
        self.next = (self.next + 1) % POISONINGS_MAX;
        true
    }
}

impl Default for PoisonBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_65th_within_a_minute_is_one_too_many() {
        let mut budget = PoisonBudget::new();
        for n in 0..POISONINGS_MAX as i64 {
            assert!(budget.take(n * 1000), "{n}");
        }
        assert!(!budget.take(64_000));
        assert!(!budget.take(WINDOW_US - 1));
        assert!(budget.take(WINDOW_US), "the first is a minute old");
        assert!(!budget.take(WINDOW_US), "the second is not");
        assert!(budget.take(WINDOW_US + 1000));
    }
}
