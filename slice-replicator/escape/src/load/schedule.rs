//! The open-loop schedule: which session sends when. It knows nothing of replies.
//!
//! Every session has the same period; its phase is fixed. A burst of [`LoadPlan::burst`](super::plan::LoadPlan)
//! sessions shares each instant, so that a service which answers quickly still has many requests in flight at times.

/// One session's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Index of the session.
    pub session: usize,
    /// When it is due.
    pub due_us: u64,
}

/// The turns of all sessions, in order of time.
#[derive(Clone, Debug)]
pub struct Schedule {
    start_us: u64,
    sessions: u64,
    burst: u64,
    period_us: u64,
    /// Turns taken.
    taken: u64,
}

impl Schedule {
    /// `sessions` sessions, each sending every `period_us` from `start_us` on, `burst` of them at the same instant.
    pub fn new(start_us: u64, sessions: usize, period_us: u64, burst: usize) -> Self {
        Self {
            start_us,
            sessions: sessions as u64,
            burst: (burst as u64).max(1),
            period_us: period_us.max(1),
            taken: 0,
        }
    }

    /// When the next turn is due; none without sessions.
    pub fn next_due_us(&self) -> Option<u64> {
        (self.sessions > 0).then(|| self.due_us(self.taken))
    }

    /// Takes the next turn if it is due at `now_us`.
    pub fn take(&mut self, now_us: u64) -> Option<Turn> {
        let due_us = self.next_due_us().filter(|&due| due <= now_us)?;
        let session = (self.taken % self.sessions) as usize;
        self.taken += 1;
        Some(Turn { session, due_us })
    }

    fn due_us(&self, turn: u64) -> u64 {
        let (round, index) = (turn / self.sessions, turn % self.sessions);
        let burst_first = index - index % self.burst;
        // u128: period × sessions may pass 2^64 for long periods.
        let phase = u128::from(burst_first) * u128::from(self.period_us) / u128::from(self.sessions);
        self.start_us + round * self.period_us + phase as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_keeps_its_period_and_bursts_share_an_instant() {
        let mut schedule = Schedule::new(1_000, 10, 200_000, 4);
        let turns: Vec<Turn> = std::iter::from_fn(|| schedule.take(1_000 + 3 * 200_000 - 1)).collect();
        assert_eq!(turns.len(), 30);
        assert!(turns.windows(2).all(|pair| pair[0].due_us <= pair[1].due_us));
        for session in 0..10 {
            let due: Vec<u64> = turns.iter().filter(|turn| turn.session == session).map(|turn| turn.due_us).collect();
            assert_eq!(due.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>(), [200_000, 200_000]);
        }
        assert!(turns[..4].iter().all(|turn| turn.due_us == 1_000));
        assert!(turns[4].due_us > 1_000);
    }

    #[test]
    fn nothing_is_due_before_its_time_or_without_sessions() {
        assert_eq!(Schedule::new(10, 1, 5, 1).take(9), None);
        assert_eq!(Schedule::new(0, 0, 5, 1).take(100), None);
    }
}
