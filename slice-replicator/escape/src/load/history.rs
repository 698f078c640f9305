//! The latest replies. The fault's exact instant is known a little after it happened; the history says what was going
//! on at that instant.

use std::collections::VecDeque;

use super::http_session::Completion;

/// Replies kept: seconds of load at 1,000 sessions. When full the oldest is dropped; an instant older than all that is
/// kept is answered from what is left.
pub const HISTORY_MAX: usize = 65_536;

/// The latest right replies of all sessions.
#[derive(Debug, Default)]
pub struct History {
    latest: VecDeque<(usize, Completion)>,
}

impl History {
    /// Adds a reply of `session`.
    pub fn push(&mut self, session: usize, completion: Completion) {
        if self.latest.len() >= HISTORY_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back((session, completion));
    }

    /// Replies that were complete after `instant_us`, in order.
    pub fn done_after(&self, instant_us: u64) -> impl Iterator<Item = (usize, Completion)> + '_ {
        // Replies are pushed in order of their completion.
        let first = self.latest.partition_point(|(_, completion)| completion.done_us <= instant_us);
        self.latest.range(first..).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done_at(done_us: u64) -> Completion {
        Completion { scheduled_us: 0, sent_us: 0, first_byte_us: done_us, done_us }
    }

    #[test]
    fn it_is_bounded_and_keeps_the_latest() {
        let mut history = History::default();
        for done_us in 0..HISTORY_MAX as u64 + 10 {
            history.push(1, done_at(done_us));
        }
        assert_eq!(history.latest.len(), HISTORY_MAX);
        assert_eq!(history.done_after(HISTORY_MAX as u64 + 7).count(), 2);
        assert_eq!(history.done_after(0).count(), HISTORY_MAX);
    }
}
