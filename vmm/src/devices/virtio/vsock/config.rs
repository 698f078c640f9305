//! What virtio-vsock is (virtio 1.2, section 5.10), and what a guest's must be told.

use crate::devices::virtio::device_state::DeviceModel;
use std::path::PathBuf;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// "Socket device" (virtio 1.2, section 5).
const DEVICE_ID: u32 = 19;
/// Packets for the guest.
pub const RECEIVE_QUEUE: usize = 0;
/// Packets of the guest.
pub const TRANSMIT_QUEUE: usize = 1;
/// The host's context id (section 5.10.4).
pub const HOST_CID: u64 = 2;
/// Context ids from this on are guests'; the highest is reserved.
pub const FIRST_GUEST_CID: u32 = 3;

/// A guest's vsock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VsockConfig {
    /// The guest's context id, from [`FIRST_GUEST_CID`] to 2^32 - 2.
    pub cid: u32,
    /// A unix socket that is made here: who connects to it and says `CONNECT PORT` reaches the guest's port; the guest's connections
    /// to the host's port `N` go to the socket `PATH_N`.
    pub socket: PathBuf,
}

/// The device: queues for receiving, transmitting and events, of which there are none.
pub fn model(cid: u32) -> DeviceModel {
    DeviceModel {
        name: "virtio-vsock",
        id: DEVICE_ID,
        features: 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC,
        queue_sizes_max: &[128, 128, 8],
        config: u64::from(cid).to_le_bytes().to_vec(),
    }
}
