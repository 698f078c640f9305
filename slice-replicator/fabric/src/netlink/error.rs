use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::errno_advice::advice;

/// What can go wrong between this process and the kernel's netlink families.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket (protocol {protocol}): {source}")]
    Open {
        /// Netlink protocol number (0 = routes and links, 12 = netfilter).
        protocol: i32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The request did not reach the kernel: nothing was changed.
    #[error("cannot send {bytes} bytes of {what}: {source}{}", advice(.source))]
    Send {
        /// What was to be done.
        what: String,
        /// Size of the datagram.
        bytes: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The answer could not be read: whether the change was made is unknown.
    #[error("cannot read the kernel's answer to {what}: {source}{}", advice(.source))]
    Receive {
        /// What was to be done.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No answer in time: whether the change was made is unknown.
    #[error("the kernel did not answer {what} within {after:?}")]
    TimedOut {
        /// What was to be done.
        what: String,
        /// The limit.
        after: Duration,
    },
    /// The kernel refused; nothing was changed.
    #[error("{what}: {source}{}{}", detail_of(.detail), advice(.source))]
    Refused {
        /// What was to be done.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
        /// The kernel's own words, if it had any (extended acknowledgement).
        detail: String,
    },
    /// An answer that is no netlink message.
    #[error("the kernel's answer to {what} is malformed: {why}")]
    Malformed {
        /// What was asked.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An attribute or message longer than its length field can say.
    #[error("{what} is too long for one netlink message")]
    TooLong {
        /// What was to be done.
        what: String,
    },
    /// A listing changed again and again while it was read.
    #[error("{what}: the list kept changing, {tries} tries")]
    KeptChanging {
        /// What was asked.
        what: String,
        /// How often it was tried.
        tries: u32,
    },
}

impl NetlinkError {
    /// The kernel's error number, if it refused.
    pub fn refusal(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the change may or may not have been made.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Receive { .. } | Self::TimedOut { .. } | Self::Malformed { .. })
    }
}

fn detail_of(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}
