//! Devices of the guest.

pub mod power;
pub mod serial;
pub mod stock;
pub mod virtio;
