//! Counters of the node's own decisions (the VMM's and the commit path's are in their crates).

/// Plain counters; only the data thread writes them.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct NodeMetrics {
    /// SYNs of groups that this node does not own, dropped.
    pub syn_not_owned: u64,
    /// Inbound frames of owned groups whose gate was not closed when the fabric steered them here. Must stay 0.
    pub before_gate: u64,
    /// Inbound frames kept behind a gate.
    pub gated: u64,
    /// Inbound frames dropped because the guest took none for too long.
    pub rx_backlog_full: u64,
    /// Bindings that were refused (no such SYN, slot or flow taken, group not owned).
    pub bindings_refused: u64,
    /// Captures sent as checkpoints.
    pub checkpoints: u64,
    /// Bytes of checkpoint bodies.
    pub checkpoint_bytes: u64,
    /// Full copies sent.
    pub full_copies: u64,
    /// Bytes of them.
    pub full_copy_bytes: u64,
    /// Full copies after which the next ones for new standbys had to wait for their share of the link.
    pub bulk_pauses: u64,
    /// Checkpoints applied for others.
    pub applied: u64,
    /// Checkpoints refused.
    pub refused: u64,
    /// Frames released after an acknowledgement.
    pub released: u64,
    /// Frames that the tap did not take (the client's TCP recovers).
    pub tap_write_failed: u64,
    /// Slices quarantined.
    pub quarantined: u64,
    /// Times that the guest was found dead or hung.
    pub guest_down: u64,
    /// Turns of the data thread.
    pub turns: u64,
}
