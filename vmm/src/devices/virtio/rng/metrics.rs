//! Counters of virtio-rng.

/// What virtio-rng has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RngMetrics {
    /// Requests answered.
    pub requests: u64,
    /// Random bytes given.
    pub bytes: u64,
    /// Chains that made no sense; returned without bytes.
    pub chains_malformed: u64,
    /// Queues so broken that the device asked for a reset.
    pub queues_broken: u64,
    /// Times the host had no randomness.
    pub source_errors: u64,
}
