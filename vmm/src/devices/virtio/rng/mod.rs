//! virtio-rng.

pub mod config;
pub mod device;
pub mod metrics;

pub use device::Rng;
pub use metrics::RngMetrics;
