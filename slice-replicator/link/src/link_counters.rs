//! What went over a link.

/// Traffic of one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Messages staged.
    pub messages_out: u64,
    /// Their bytes, length prefixes included.
    pub bytes_out: u64,
    /// Frames handed out.
    pub messages_in: u64,
    /// Their bytes, length prefixes not included.
    pub bytes_in: u64,
    /// Messages refused because the outgoing buffer was full.
    pub congested: u64,
}
