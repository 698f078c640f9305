//! What the valve says about frames.

use super::coverage::Breach;
use super::slice_id::SliceId;
use escape_abi::OpeningNumbers;
use escape_abi::message::Flow;
use thiserror::Error;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Queued until `need` of the slot is committed.
    Held {
        /// The slice.
        slice: SliceId,
        /// The generation.
        need: u64,
    },
    /// Its generation is committed and nothing of the slice waits: the caller sends it now.
    Send,
    /// Unprotected output, allowed: the caller sends it now.
    PassUnprotected,
    /// A kernel's answer to a SYN, which waits for a binding of its flow: the agent must be told.
    Opening {
        /// The connection.
        flow: Flow,
        /// What both sides said.
        numbers: OpeningNumbers,
    },
    /// Not sent, ever.
    Dropped(DropCause),
}

/// Why a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[repr(u8)]
pub enum DropCause {
    /// May be TCP, but cannot be told.
    #[error("unparsable")]
    Unparsable,
    /// A protected port, but no slice has the flow (RST included).
    #[error("flow of no slice")]
    Unbound,
    /// Not of a protected port, and unprotected output is not allowed.
    #[error("unprotected output")]
    Unprotected,
    /// TCP from an address that is not the service's.
    #[error("foreign source address")]
    Spoofed,
    /// The slice is quarantined.
    #[error("slice is quarantined")]
    Quarantined,
    /// The slice holds too much already.
    #[error("slice holds too much")]
    SliceQuota,
    /// The guest holds too much already.
    #[error("guest holds too much")]
    VmQuota,
    /// The slice holds too many FIN and RST already.
    #[error("slice holds too many FIN or RST")]
    EndingQuota,
    /// An identical segment is held.
    #[error("a copy is held")]
    Duplicate,
    /// Sequence number far from the slice's committed frontier.
    #[error("sequence number out of horizon")]
    Horizon,
    /// The slot has no word: it is not of this cell.
    #[error("no such slot")]
    NoSlot,
}

impl DropCause {
    /// Number of causes.
    pub const COUNT: usize = 11;

    /// Place in [`ValveMetrics::dropped`](super::metrics::ValveMetrics::dropped).
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a release did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Frames given out.
    pub frames: u32,
    /// Frames of the slice that still wait.
    pub left: usize,
    /// The slice contradicted its committed state and is quarantined now.
    pub breach: Option<Breach>,
}
