//! Why the generator could not do its work (what the service does wrong is a [`Violation`](super::Violation)).

use std::io;
use std::time::Duration;

/// A failure of the generator itself.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A call to the kernel failed.
    #[error("load generator: {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Not enough file descriptors for the sessions.
    #[error(
        "{wanted} open files are needed for the sessions, the limit is {limit}: raise it (ulimit -Hn, or LimitNOFILE= in the unit)"
    )]
    FileLimit {
        /// Descriptors needed.
        wanted: u64,
        /// The hard limit.
        limit: u64,
    },
    /// The sessions were not open in time.
    #[error("{open} of {sessions} sessions open after {after:?}, {gone} refused or failed{first}")]
    NotOpened {
        /// Sessions open.
        open: u64,
        /// Sessions wanted.
        sessions: u64,
        /// Sessions that failed.
        gone: u64,
        /// How long it was waited.
        after: Duration,
        /// The first failure in words, with a separator; may be empty.
        first: String,
    },
    /// No answer from the generator's thread.
    #[error("the load generator's thread did not answer {what} within {after:?}")]
    Silent {
        /// What was asked.
        what: &'static str,
        /// How long it was waited.
        after: Duration,
    },
    /// The generator's thread ended with a panic.
    #[error("the load generator's thread panicked")]
    Panicked,
}

impl LoadError {
    /// For `map_err`.
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
