//! What a node answers to `status`.

use serde::Deserialize;

/// The figures that a drill looks at.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct NodeStatus {
    /// Its guest runs.
    pub guest: bool,
    /// Slices owned.
    pub slices: u64,
    /// Groups owned.
    pub groups: u64,
    /// Groups owned that are not Paired, or whose gate is not open yet.
    pub unpaired: u64,
    /// Frames held.
    pub held: u64,
    /// Its counters.
    pub metrics: StatusMetrics,
}

/// The counters that a drill looks at.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct StatusMetrics {
    /// Frames that were steered to the node before its gate was closed.
    pub before_gate: u64,
}

impl NodeStatus {
    /// It runs, and everything that it owns has a standby.
    pub const fn is_settled(&self) -> bool {
        self.guest && self.unpaired == 0
    }
}
