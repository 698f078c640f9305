//! What must hold for a drill to pass, beside the promises that are never given up.

use serde::{Deserialize, Serialize};

/// `[must]` of a drill file. No request lost, doubled or reordered, no wrong byte and no reset is asked of every drill; so is
/// that every slice is protected in the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Must {
    /// Groups must be reported as lost; the sessions of exactly these may end. False: none may be lost.
    pub lost_groups: bool,
    /// Groups must go on from the memory of nodes that were declared dead, on whatever node.
    pub claimed_groups: bool,
    /// No fault of the drill may lead to a failover.
    pub no_failover: bool,
    /// Nodes that may be declared dead without a fault of theirs.
    pub false_failovers: u32,
    /// Right replies per request due while a fault lasts that takes no node (0 to 1); 0 = not judged.
    pub achieved_over_offered: f64,
    /// Longest wait after detection of half of the failed node's sessions, milliseconds.
    pub wait_p50_ms: f64,
    /// The same of 99 of 100; 0 = not judged.
    pub wait_p99_ms: f64,
    /// Longest wait of half of the other sessions after the fault, milliseconds.
    pub others_wait_p50_ms: f64,
    /// Longest latency of any request of the drill, milliseconds; 0 = not judged.
    pub latency_max_ms: f64,
}

/// A longer wait fails the drill: a Linux client's shortest retransmission timeout is 200 ms, so beyond this it was
/// the client's TCP that repaired the connection, not the failover.
pub const GAP_LIMIT_P50_MS: f64 = 150.0;

impl Default for Must {
    fn default() -> Self {
        Self {
            lost_groups: false,
            claimed_groups: false,
            no_failover: false,
            false_failovers: 0,
            achieved_over_offered: 0.0,
            wait_p50_ms: GAP_LIMIT_P50_MS,
            wait_p99_ms: 0.0,
            others_wait_p50_ms: GAP_LIMIT_P50_MS,
            latency_max_ms: 0.0,
        }
    }
}

impl Must {
    /// What `escape drill` without a file asks: of nodes that did not fail it only asks how their clients fared.
    pub fn of_plain_drill() -> Self {
        Self { false_failovers: u32::MAX, ..Self::default() }
    }

    /// Whether the waits must be too short for a client's own retransmission.
    pub fn is_without_retransmission(&self) -> bool {
        self.wait_p50_ms <= GAP_LIMIT_P50_MS
    }
}
