//! virtio-console: a console without an exit per character (`hvc0` in Linux).

pub mod config;
pub mod device;
pub mod metrics;

pub use device::VirtioConsole;
pub use metrics::ConsoleMetrics;
