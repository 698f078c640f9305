//! What virtio-rng is (virtio 1.2, section 5.4).

use crate::devices::virtio::device_state::DeviceModel;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// "Entropy source" (virtio 1.2, section 5).
const DEVICE_ID: u32 = 4;
/// The only queue.
pub const REQUEST_QUEUE: usize = 0;

/// The device: one queue, no configuration.
pub fn model() -> DeviceModel {
    DeviceModel {
        name: "virtio-rng",
        id: DEVICE_ID,
        features: 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC,
        queue_sizes_max: &[64],
        config: Vec::new(),
    }
}
