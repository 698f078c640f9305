//! How much a node may hold, keep and copy.

use escape_vmm::commit::{HoldLimits, IngressLimits};
use serde::{Deserialize, Serialize};

/// What one held frame of a slice is counted with, bytes: the buffer of a frame of 1,500 bytes.
const FRAME_BYTES: usize = 2048;

/// Quotas of a node. What is over one is dropped for that slice alone; TCP sends it again. The defaults are those of the
/// commit path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaConfig {
    /// Output held for one slice, KiB; also 1 frame per 2 KiB of it.
    pub held_kib_per_slice: u32,
    /// Output held by the node, MiB.
    pub held_mib_per_node: u32,
    /// Longest time that a frame is held, milliseconds.
    pub held_ms: u64,
    /// Inbound frames kept for gated groups and for those that the node stands by for, MiB.
    pub mirror_mib_per_node: u32,
    /// What the node's network link carries, megabits per second.
    pub link_mbit: u32,
    /// Share of that link that full copies for new standbys may take, percent.
    pub bulk_percent: u8,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self {
            held_kib_per_slice: 512,
            held_mib_per_node: 64,
            held_ms: 10_000,
            mirror_mib_per_node: 64,
            link_mbit: 10_000,
            bulk_percent: 25,
        }
    }
}

impl QuotaConfig {
    /// The valve's limits.
    pub fn hold_limits(&self) -> HoldLimits {
        let slice_bytes_max = kib(self.held_kib_per_slice);
        HoldLimits {
            slice_frames_max: slice_bytes_max / FRAME_BYTES,
            slice_bytes_max,
            vm_bytes_max: mib(self.held_mib_per_node),
            hold_age_us_max: self.held_ms.saturating_mul(1000),
            ..HoldLimits::default()
        }
    }

    /// Limits of what gate and mirror keep.
    pub fn ingress_limits(&self) -> IngressLimits {
        IngressLimits { vmm_bytes_max: mib(self.mirror_mib_per_node), ..IngressLimits::default() }
    }
}

/// Bytes; the target has 64-bit addresses.
const fn kib(n: u32) -> usize {
    (n as usize) << 10
}

const fn mib(n: u32) -> usize {
    (n as usize) << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_commit_path() {
        assert_eq!(QuotaConfig::default().hold_limits(), HoldLimits::default());
        assert_eq!(QuotaConfig::default().ingress_limits(), IngressLimits::default());
    }

    #[test]
    fn every_quota_reaches_its_limit() {
        let quotas = QuotaConfig {
            held_kib_per_slice: 64,
            held_mib_per_node: 3,
            held_ms: 50,
            mirror_mib_per_node: 5,
            ..QuotaConfig::default()
        };
        let hold = quotas.hold_limits();
        assert_eq!((hold.slice_bytes_max, hold.slice_frames_max), (64 << 10, 32));
        assert_eq!((hold.vm_bytes_max, hold.hold_age_us_max), (3 << 20, 50_000));
        assert_eq!(quotas.ingress_limits().vmm_bytes_max, 5 << 20);
    }
}
