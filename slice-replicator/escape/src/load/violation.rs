//! What a client may find wrong, and how much of it.

/// Something that must not happen to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The server no longer knows of requests that it had answered, or skipped one.
    #[error("{count} request(s) lost: {how}")]
    Lost {
        /// Number of requests.
        count: u64,
        /// What showed it.
        how: String,
    },
    /// A request was executed or answered more than once.
    #[error("{count} request(s) doubled: {how}")]
    Duplicated {
        /// Number of requests.
        count: u64,
        /// What showed it.
        how: String,
    },
    /// Replies came in another order than their requests.
    #[error("{count} reply/replies out of order: {how}")]
    Reordered {
        /// Number of replies.
        count: u64,
        /// What showed it.
        how: String,
    },
    /// Bytes that differ from what they must be: body, status, chain or framing.
    #[error("{count} wrong byte(s): {how}")]
    WrongBytes {
        /// Number of bytes; 1 where a whole field is wrong.
        count: u64,
        /// Which bytes.
        how: String,
    },
    /// The connection was reset or closed by the other side, or could not be made.
    #[error("connection gone: {how}; {unanswered} request(s) unanswered")]
    Reset {
        /// The socket's error.
        how: String,
        /// Requests that will never be answered.
        unanswered: u64,
    },
}

/// Counts of violations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests lost, those unanswered on a connection that is gone included.
    pub lost: u64,
    /// Requests executed or answered more than once.
    pub duplicated: u64,
    /// Replies out of order.
    pub reordered: u64,
    /// Wrong bytes.
    pub wrong_bytes: u64,
    /// Connections reset, closed by the other side, or not made.
    pub resets: u64,
}

impl Tally {
    /// Adds one violation.
    pub fn add(&mut self, violation: &Violation) {
        match violation {
            Violation::Lost { count, .. } => self.lost += count,
            Violation::Duplicated { count, .. } => self.duplicated += count,
            Violation::Reordered { count, .. } => self.reordered += count,
            Violation::WrongBytes { count, .. } => self.wrong_bytes += count,
            Violation::Reset { unanswered, .. } => {
                self.resets += 1;
                self.lost += unanswered;
            }
        }
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// What was found since `earlier`, a tally of the same run.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            lost: self.lost.saturating_sub(earlier.lost),
            duplicated: self.duplicated.saturating_sub(earlier.duplicated),
            reordered: self.reordered.saturating_sub(earlier.reordered),
            wrong_bytes: self.wrong_bytes.saturating_sub(earlier.wrong_bytes),
            resets: self.resets.saturating_sub(earlier.resets),
        }
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            wrong_bytes: self.wrong_bytes + other.wrong_bytes,
            resets: self.resets + other.resets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_also_loses_what_was_unanswered() {
        let mut tally = Tally::default();
        tally.add(&Violation::Reset { how: "x".into(), unanswered: 3 });
        assert_eq!((tally.resets, tally.lost), (1, 3));
        assert!(!tally.is_clean());
        assert!(tally.since(&tally).is_clean());
    }
}
