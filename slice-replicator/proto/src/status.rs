//! How the cell is, as the orchestrator knows it: `escape status`.

use crate::record::Mode;
use serde::{Deserialize, Serialize};

/// The whole cell. Figures of slices are the nodes' own, a quarter of a second old at most while a node reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellStatus {
    /// The store's revision; 0 = it has not been read yet.
    pub revision: u64,
    /// Since the orchestrator's start, microseconds. What it counts begins there.
    pub uptime_us: u64,
    /// The edge has a link.
    pub edge_linked: bool,
    /// Transactions that wait for the store.
    pub transactions_waiting: u64,
    /// Every node that ever joined, with its present or last life.
    pub nodes: Vec<NodeStatus>,
    /// Every group that is not lost.
    pub groups: Vec<GroupStatus>,
    /// Groups that the store has as lost, at any time.
    pub groups_lost: u64,
    /// Slices of groups that were lost since the orchestrator's start, by their owners' last reports.
    pub slices_lost: u64,
    /// Slices that were quarantined since the orchestrator's start.
    pub slices_quarantined: u64,
    /// Leases that nobody has.
    pub leases_free: u32,
    /// Leases of lives that are over: a session goes on in each, and no new one begins there.
    pub leases_draining: u32,
    /// Failovers since the orchestrator's start.
    pub failovers: u64,
    /// The last of them.
    pub last_failover: Option<FailoverStatus>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub node: u16,
    /// Its present or last life.
    pub inc: u64,
    /// Its host.
    pub host: String,
    /// That life is in the cell.
    pub up: bool,
    /// It has a link.
    pub linked: bool,
    /// The orchestrator suspects it.
    pub suspected: bool,
    /// Leases in whose slots its new sessions begin.
    pub leases: u32,
    /// Slices that it owns and that have an acknowledged copy at a standby.
    pub protected: u32,
    /// Slices that it owns and that rest on one copy.
    pub solo: u32,
    /// Images that it keeps for others.
    pub standby: u32,
    /// Frames that its valve holds.
    pub held_frames: u32,
    /// Age of the oldest of them, microseconds.
    pub held_age_us: u64,
}

/// One group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    pub group: u32,
    /// Its epoch.
    pub epoch: u64,
    /// Its owner.
    pub owner: u16,
    /// Its standby.
    pub standby: Option<u16>,
    /// Paired or Solo.
    pub mode: Mode,
    /// Its slices with an acknowledged copy at the standby.
    pub protected: u32,
    /// Its slices that rest on one copy.
    pub solo: u32,
    /// For how long it has had such slices, microseconds.
    pub unprotected_us: u64,
}

/// A failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverStatus {
    /// The node that failed.
    pub node: u16,
    /// Which of its lives.
    pub inc: u64,
    /// When it was decided, milliseconds since 1970.
    pub unix_ms: u64,
    /// Why.
    pub cause: FailoverCause,
    /// Groups handed over.
    pub groups: u32,
    /// Of these, groups whose slices are all plugged at the new owner.
    pub groups_plugged: u32,
    /// Of these, groups that have a standby again.
    pub groups_protected: u32,
    /// Slices plugged.
    pub slices: u64,
    /// From the decision to the last group plugged, by the orchestrator's clock, microseconds; none: not all are.
    pub plugged_us: Option<u64>,
    /// From the decision to the last group protected again, likewise.
    pub protected_us: Option<u64>,
}

/// Why a node's groups were handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailoverCause {
    /// The node was silent, and others found so too.
    Silent {
        /// Since its last heartbeat, microseconds.
        silent_us: u64,
        /// Nodes that suspected it too.
        detected_by: Vec<u16>,
    },
    /// Its guest crashed or hung.
    GuestDown {
        /// As the node said it.
        cause: String,
    },
}
