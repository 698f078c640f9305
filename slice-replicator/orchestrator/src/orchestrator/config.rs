//! What the orchestrator's process is told at its start.

use crate::events_place::OutputPlace;
use escape_engine::SuspicionConfig;
use escape_link::ClusterSecrets;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Configuration of the orchestrator's process. Unknown keys are errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrchestratorProcessConfig {
    /// Where nodes and the edge connect.
    pub listen: SocketAddr,
    /// Where heartbeats arrive (UDP).
    pub beat_listen: SocketAddr,
    /// The store's file.
    pub store: OutputPlace,
    /// Groups that a node gets when it joins.
    #[serde(default = "default_groups_per_node")]
    pub groups_per_node: u32,
    /// Slots of the cell's arena; leases are 64 slots each.
    pub n_slots: u32,
    /// Most leases that one join gets.
    #[serde(default = "default_leases_per_join_max")]
    pub leases_per_join_max: u32,
    /// How long a group without a living copy in the cell is kept for a paused or cut off process that still has one,
    /// milliseconds.
    #[serde(default = "default_claim_ms")]
    pub claim_ms: u64,
    /// Crashes of its guest, less than a minute after one another, with which a slice is given up.
    #[serde(default = "default_slice_crashes_per_minute")]
    pub slice_crashes_per_minute: u32,
    /// Limits of failure detection.
    #[serde(default)]
    pub timing: DetectionTiming,
    /// Real-time priority for the loop, where it is allowed.
    #[serde(default = "yes")]
    pub real_time: bool,
    /// Where events go, a line of JSON each.
    #[serde(default)]
    pub events: Option<OutputPlace>,
    /// Where metrics are told over HTTP; none: nowhere.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// A deliberate fault (`escape drill --break`).
    #[serde(default)]
    pub broken: Option<String>,
    /// This process's identity.
    pub secrets: ClusterSecrets,
}

/// Limits of failure detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectionTiming {
    /// Silence after which a node is suspected, milliseconds.
    pub suspect_after_ms: u64,
    /// Beats without progress of the data thread after which a node is suspected, milliseconds.
    pub progress_timeout_ms: u64,
    /// A pause of the own loop longer than this restarts all timers, milliseconds.
    pub own_pause_ms: u64,
}

/// A host that is a virtual machine itself may lose a processor for 15 ms; a node must not die of that. A node whose
/// sockets have closed is suspected after a quarter of this.
const SUSPECT_AFTER_MS: u64 = 40;

impl Default for DetectionTiming {
    fn default() -> Self {
        let SuspicionConfig { progress_timeout_us, own_pause_us, .. } = SuspicionConfig::default();
        Self {
            suspect_after_ms: SUSPECT_AFTER_MS,
            progress_timeout_ms: progress_timeout_us / 1000,
            own_pause_ms: own_pause_us / 1000,
        }
    }
}

impl DetectionTiming {
    pub(crate) const fn suspicion(self) -> SuspicionConfig {
        SuspicionConfig {
            suspect_after_us: self.suspect_after_ms.saturating_mul(1000),
            progress_timeout_us: self.progress_timeout_ms.saturating_mul(1000),
            own_pause_us: self.own_pause_ms.saturating_mul(1000),
        }
    }
}

const fn default_groups_per_node() -> u32 {
    16
}

const fn default_leases_per_join_max() -> u32 {
    16
}

const fn default_claim_ms() -> u64 {
    10_000
}

const fn default_slice_crashes_per_minute() -> u32 {
    2
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use escape_link::ClusterAuthority;
    use escape_proto::Role;

    #[test]
    fn a_configuration_survives_its_file_and_unknown_keys_are_refused() {
        let secrets = ClusterAuthority::new("cell-a").unwrap().issue(Role::Orchestrator).unwrap();
        let text = format!(
            "listen = \"10.0.0.1:4100\"\nbeat_listen = \"10.0.0.1:4101\"\nstore = {{ fd = 5 }}\nn_slots = 4096\n\
             events = {{ path = \"events.jsonl\" }}\n[timing]\nsuspect_after_ms = 20\n[secrets]\n{}",
            secrets.to_toml().unwrap()
        );
        let config: OrchestratorProcessConfig = toml::from_str(&text).unwrap();
        assert_eq!(config.store, OutputPlace::Fd(5));
        assert_eq!(
            (config.groups_per_node, config.leases_per_join_max, config.claim_ms, config.real_time),
            (16, 16, 10_000, true)
        );
        assert_eq!(config.timing, DetectionTiming { suspect_after_ms: 20, ..DetectionTiming::default() });
        assert_eq!(config.secrets, secrets);
        let wrong = text.replace("[timing]", "[timing]\ncolour = 1");
        assert!(toml::from_str::<OrchestratorProcessConfig>(&wrong).unwrap_err().to_string().contains("colour"));
    }
}
