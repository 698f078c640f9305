//! What virtio-console is (virtio 1.2, section 5.3): one port, no size, no control queues.

use crate::devices::virtio::device_state::DeviceModel;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// "Console" (virtio 1.2, section 5).
const DEVICE_ID: u32 = 3;
/// What is typed.
pub const RECEIVE_QUEUE: usize = 0;
/// What the guest says.
pub const TRANSMIT_QUEUE: usize = 1;

/// The device.
pub fn model() -> DeviceModel {
    DeviceModel {
        name: "virtio-console",
        id: DEVICE_ID,
        features: 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC,
        queue_sizes_max: &[64, 64],
        config: Vec::new(),
    }
}
