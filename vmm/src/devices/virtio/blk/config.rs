//! What virtio-blk is (virtio 1.2, section 5.2).

use crate::devices::virtio::chain::DESCRIPTORS_PER_CHAIN_MAX;
use crate::devices::virtio::device_state::DeviceModel;
use std::path::PathBuf;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// Disks of one guest.
pub const DISKS_MAX: usize = 4;
/// The only queue.
pub const REQUEST_QUEUE: usize = 0;
/// Unit of addresses and lengths, bytes.
pub const SECTOR: u64 = 512;
/// "Block device" (virtio 1.2, section 5).
const DEVICE_ID: u32 = 2;
/// Head and status take two descriptors of a chain.
const SEGMENTS_MAX: u32 = DESCRIPTORS_PER_CHAIN_MAX as u32 - 2;
/// Largest segment, bytes.
const SEGMENT_BYTES_MAX: u32 = 1 << 20;
const F_SIZE_MAX: u64 = 1 << 1;
const F_SEG_MAX: u64 = 1 << 2;
const F_RO: u64 = 1 << 5;
const F_FLUSH: u64 = 1 << 9;

/// A disk that a guest is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// A raw file or a block device.
    pub path: PathBuf,
    /// The guest may not write.
    pub read_only: bool,
}

/// The device of a disk with so many sectors.
pub fn model(sectors: u64, read_only: bool) -> DeviceModel {
    let mut features = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;
    features |= F_SIZE_MAX | F_SEG_MAX | F_FLUSH;
    if read_only {
        features |= F_RO;
    }
    let mut config = sectors.to_le_bytes().to_vec();
    config.extend(SEGMENT_BYTES_MAX.to_le_bytes());
    config.extend(SEGMENTS_MAX.to_le_bytes());
    DeviceModel { name: "virtio-blk", id: DEVICE_ID, features, queue_sizes_max: &[128], config }
}
