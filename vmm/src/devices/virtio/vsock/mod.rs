//! virtio-vsock: streams between host and guest that need no network. On the host each is a unix socket.

pub mod config;
mod connection;
pub mod device;
mod error;
mod greeting;
pub mod metrics;
mod muxer;
mod packet;
#[cfg(test)]
mod tests;

pub use config::VsockConfig;
pub use device::Vsock;
pub use error::VsockError;
pub use metrics::VsockMetrics;
