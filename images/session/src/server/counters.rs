//! What the server counts.

/// Counts since the guest started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Frames that came in.
    pub frames_in: u64,
    /// Frames that are neither TCP for us nor an ARP request for our address.
    pub not_for_us: u64,
    /// Segments other than a SYN for a connection that is not here: dropped in silence.
    pub unknown_flow: u64,
    /// SYNs to a port that is no service: dropped in silence.
    pub closed_port: u64,
    /// SYNs with a wrong checksum.
    pub bad_checksum: u64,
    /// SYNs dropped because too many handshakes were open.
    pub syn_limited: u64,
    /// SYNs dropped because no slot was free, or the ring to the host was full.
    pub syn_no_room: u64,
    /// RSTs whose sequence number was not exactly the next expected (RFC 5961, section 3.2).
    pub wrong_rst: u64,
    /// SYNs within an open connection (RFC 5961, section 4.2).
    pub wrong_syn: u64,
    /// Connections accepted.
    pub opened: u64,
    /// Slices that ended.
    pub closed: u64,
    /// Of these, given up because their peer was silent.
    pub abandoned: u64,
    /// Slices plugged.
    pub plugged: u64,
    /// Plugs refused.
    pub plug_refused: u64,
    /// Slices poisoned.
    pub poisoned: u64,
    /// Events put off because the host held the slot.
    pub deferred: u64,
    /// Frames of held slots dropped because too many waited.
    pub deferred_lost: u64,
    /// RSTs that were not sent: slices end in silence, the host answers for them.
    pub resets_suppressed: u64,
    /// Frames lost because the TX ring and what waits for it were full.
    pub frames_lost: u64,
}
