//! virtio 1.2 devices over MMIO.
//!
//! Every device folder has the same files: `config.rs` (features and configuration space), `device.rs` (what the I/O
//! thread calls), `metrics.rs`, and what is its own.

pub mod blk;
pub mod chain;
pub mod console;
pub mod device_state;
pub mod mmio;
pub mod net;
pub mod queue_setup;
pub mod rng;
pub mod suppression;
pub mod vsock;
