//! virtio-net.

pub mod config;
pub mod device;
pub mod frame_buf;
pub mod metrics;
pub mod receive;
pub mod tap;
pub mod transmit;
pub mod vnet_header;

#[cfg(test)]
mod hostile_tests;

pub use device::{Net, RxOutcome, TxFrame};
pub use frame_buf::{FRAME_BYTES_MAX, FrameBuf};
pub use metrics::NetMetrics;
pub use tap::{Tap, TapError, TapSource};
