//! Counters of virtio-console.

/// What virtio-console has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsoleMetrics {
    /// Bytes that the guest said, those included that were more than a host can bear.
    pub said_bytes: u64,
    /// Bytes typed.
    pub typed_bytes: u64,
    /// Chains that made no sense.
    pub chains_malformed: u64,
    /// Queues so broken that the device asked for a reset.
    pub queues_broken: u64,
}
