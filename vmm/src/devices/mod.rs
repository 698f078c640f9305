//! Devices of the guest.

pub mod serial;
pub mod virtio;
