//! What virtio-net is (virtio 1.2, section 5.1).

use crate::devices::virtio::device_state::DeviceModel;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_MAC,
};
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// "Network card" (virtio 1.2, section 5).
const DEVICE_ID: u32 = 1;
/// Host → guest.
pub const RECEIVE_QUEUE: usize = 0;
/// Guest → host.
pub const TRANSMIT_QUEUE: usize = 1;
/// Descriptors of each queue.
pub const QUEUE_SIZE_MAX: u16 = 256;

/// The device. Unfinished checksums, and segmentation of TCP over IPv4 on the guest's way out, are offered only if frames go to a
/// tap, whose kernel does both. A frame that is to be segmented is one frame all the way: classified, held and released whole. What comes
/// in is one packet a frame.
pub fn model(mac: [u8; 6], checksums: bool) -> DeviceModel {
    let mut features = 1 << VIRTIO_F_VERSION_1
        | 1 << VIRTIO_RING_F_EVENT_IDX
        | 1 << VIRTIO_RING_F_INDIRECT_DESC
        | 1 << VIRTIO_NET_F_MAC;
    if checksums {
        features |= 1 << VIRTIO_NET_F_CSUM | 1 << VIRTIO_NET_F_GUEST_CSUM | 1 << VIRTIO_NET_F_HOST_TSO4;
    }
    DeviceModel {
        name: "virtio-net",
        id: DEVICE_ID,
        features,
        queue_sizes_max: &[QUEUE_SIZE_MAX, QUEUE_SIZE_MAX],
        config: mac.to_vec(),
    }
}
