//! Counters of virtio-vsock.

/// What virtio-vsock has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VsockMetrics {
    /// Connections that were opened, by either side.
    pub connections: u64,
    /// Connections that were refused: nobody listens, or there are too many.
    pub refused: u64,
    /// Connections that were ended because the guest broke the rules.
    pub broken: u64,
    /// Bytes for the guest.
    pub received_bytes: u64,
    /// Bytes of the guest.
    pub sent_bytes: u64,
    /// Packets that belong to no connection.
    pub foreign: u64,
    /// Chains that made no sense.
    pub chains_malformed: u64,
    /// Queues so broken that the device asked for a reset.
    pub queues_broken: u64,
}
