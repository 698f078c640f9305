//! Devices of the guest.

pub mod pci;
pub mod power;
pub mod serial;
pub mod stock;
pub mod virtio;
