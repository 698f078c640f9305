//! virtio-blk: a raw file or block device as the guest's disk.

pub mod config;
pub mod device;
pub mod disk;
pub mod metrics;
pub mod request;

pub use config::{DISKS_MAX, DiskConfig};
pub use device::Blk;
pub use disk::{Disk, DiskError};
pub use metrics::BlkMetrics;
