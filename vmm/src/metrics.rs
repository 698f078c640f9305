//! All counters of a VM.

use crate::control::ControlMetrics;
use crate::devices::stock::StockMetrics;
use crate::devices::virtio::device_state::TransportMetrics;
use crate::devices::virtio::net::NetMetrics;
use crate::devices::virtio::rng::RngMetrics;
use crate::vcpu::ExitMetrics;

/// A reading of everything a VM counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmMetrics {
    /// Frames.
    pub net: NetMetrics,
    /// virtio-net's registers.
    pub net_transport: TransportMetrics,
    /// Randomness.
    pub rng: RngMetrics,
    /// virtio-rng's registers.
    pub rng_transport: TransportMetrics,
    /// Devices that only stock guests have.
    pub stock: StockMetrics,
    /// Control rings.
    pub control: ControlMetrics,
    /// vCPU exits.
    pub exits: ExitMetrics,
    /// Leases mapped into the guest.
    pub leases: u64,
    /// Times the guest was started.
    pub boots: u64,
    /// Bytes of console output dropped.
    pub console_dropped_bytes: u64,
}
