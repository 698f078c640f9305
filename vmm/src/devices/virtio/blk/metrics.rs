//! Counters of virtio-blk.

/// What the disks of a VM have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlkMetrics {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flushes: what was written before is on the disk.
    pub flushes: u64,
    /// Requests refused: outside the disk, writes to a read-only one, kinds that are not known.
    pub refused: u64,
    /// Requests that the file or device of the host failed.
    pub failed: u64,
    /// Chains that made no sense; returned without a status.
    pub chains_malformed: u64,
    /// Queues so broken that the device asked for a reset.
    pub queues_broken: u64,
}

impl BlkMetrics {
    /// Both together.
    pub const fn and(self, other: Self) -> Self {
        Self {
            reads: self.reads + other.reads,
            read_bytes: self.read_bytes + other.read_bytes,
            writes: self.writes + other.writes,
            written_bytes: self.written_bytes + other.written_bytes,
            flushes: self.flushes + other.flushes,
            refused: self.refused + other.refused,
            failed: self.failed + other.failed,
            chains_malformed: self.chains_malformed + other.chains_malformed,
            queues_broken: self.queues_broken + other.queues_broken,
        }
    }
}
