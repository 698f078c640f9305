//! PCI without devices. A Linux kernel that finds no way to configure PCI never makes resources of the memory map's ranges that
//! are not RAM, and so never finds the arena; a lone host bridge is enough.

pub mod config;
pub mod device;

pub use device::HostBridge;
