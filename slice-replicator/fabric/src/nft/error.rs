use thiserror::Error;

use crate::netlink::NetlinkError;
use crate::netns::NetNsError;

/// What can go wrong with nf_tables.
#[derive(Debug, Error)]
pub enum NftError {
    /// The kernel refused, or could not be asked.
    #[error("nf_tables: {0}")]
    Netlink(#[from] NetlinkError),
    /// The namespace could not be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// A transaction was made for another moment: its message numbers are not the next ones.
    #[error("nf_tables: this transaction was begun before another one was committed")]
    Stale,
}

impl NftError {
    /// The kernel's error number, if it refused.
    pub fn refusal(&self) -> Option<i32> {
        match self {
            Self::Netlink(error) => error.refusal(),
            _ => None,
        }
    }

    /// Whether the transaction may or may not have been applied.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Netlink(error) if error.outcome_unknown())
    }
}
