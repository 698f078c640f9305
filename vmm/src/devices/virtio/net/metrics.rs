//! Counters of virtio-net.

/// What virtio-net has done. Plain numbers, written by the I/O thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetMetrics {
    /// Frames taken from the guest.
    pub tx_frames: u64,
    /// Their bytes, virtio-net header included.
    pub tx_bytes: u64,
    /// Of the frames, those whose segmentation the guest leaves to the tap: one frame here, many packets outside.
    pub tx_segmented: u64,
    /// Chains that made no sense; returned to the driver.
    pub tx_chains_malformed: u64,
    /// Frames dropped because their header claims what was not negotiated or is not possible.
    pub tx_headers_refused: u64,
    /// Frames whose header had fields cleared that mean nothing.
    pub tx_headers_cleared: u64,
    /// Frames given to the guest.
    pub rx_frames: u64,
    /// Their bytes, virtio-net header included.
    pub rx_bytes: u64,
    /// Frames for which the guest had no buffer.
    pub rx_no_buffer: u64,
    /// Frames longer than a frame may be, or shorter than their headers.
    pub rx_bad_length: u64,
    /// Frames with an impossible virtio-net header (segmentation is not offered in this direction).
    pub rx_headers_refused: u64,
    /// Receive buffers that made no sense or were too small; returned to the driver empty.
    pub rx_chains_malformed: u64,
    /// Checksums finished here because the guest does not take unfinished ones.
    pub rx_checksums_finished: u64,
    /// Frames that came while the driver was not ready.
    pub rx_not_ready: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Interrupts that the driver did not want.
    pub interrupts_suppressed: u64,
    /// Queues so broken that the device asked for a reset.
    pub queues_broken: u64,
    /// Frames read from the tap.
    pub tap_reads: u64,
    /// Frames written to the tap.
    pub tap_writes: u64,
    /// Frames the tap did not take.
    pub tap_write_errors: u64,
    /// Frames read from the mirror.
    pub mirror_reads: u64,
}
