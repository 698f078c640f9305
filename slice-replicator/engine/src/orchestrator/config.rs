//! What the orchestrator is told at its start.

use crate::{Mutant, SuspicionConfig};

/// Settings of the orchestrator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OrchestratorConfig {
    /// Cluster id for a store that is still empty (random, from the caller); an existing store keeps its own.
    pub new_cluster: [u8; 16],
    /// Placement seed for a store that is still empty (random, from the caller).
    pub new_placement_seed: u32,
    /// Failure detection.
    pub suspicion: SuspicionConfig,
    /// If no standby of a suspected node can be heard either, any other node that is heard may confirm the suspicion
    /// after this much silence, microseconds.
    pub double_fault_after_us: u64,
    /// A group without a living copy in the cell is kept for this long for a process that still has one and joins anew;
    /// then it is lost, microseconds. Counted anew by a new orchestrator.
    pub claim_us: u64,
    /// Groups that a node gets at T1.
    pub groups_per_node: u32,
    /// Most nodes of the cell that are Up at once (16).
    pub nodes_max: usize,
    /// Leases of 64 slots in the arena (1,024 = 65,536 slots).
    pub leases_max: u32,
    /// Most leases that one join gets.
    pub leases_per_join_max: u32,
    /// Most leases that a node has at once.
    pub leases_per_node_max: u32,
    /// Crashes that a slice may be charged with, less than a minute after one another: with this one it is given up.
    pub slice_crashes_per_minute: u32,
    /// Most suspects and given up slices that are remembered; when full, the one written longest ago is forgotten.
    pub quarantine_max: usize,
    /// How long they are remembered, microseconds.
    pub quarantine_us: u64,
    /// Most moves that some node has not put in order yet; when full, a further one is refused.
    pub moves_max: usize,
    /// Most groups, those included that moves made; when full, a further move is refused.
    pub groups_max: usize,
    /// Most requests that wait for a transaction; when full, further ones are dropped (nodes ask again, R1).
    pub requests_max: usize,
    /// A transaction without an answer is sent again after this, microseconds (its compares make that harmless).
    pub txn_resend_us: u64,
    /// Deliberate fault.
    pub broken: Option<Mutant>,
}

impl Default for OrchestratorConfig {
    fn default() -> Self {
        Self {
            new_cluster: [0; 16],
            new_placement_seed: 0,
            suspicion: SuspicionConfig::default(),
            double_fault_after_us: 1_000_000,
            claim_us: 10_000_000,
            groups_per_node: 16,
            nodes_max: 16,
            leases_max: 1_024,
            leases_per_join_max: 16,
            leases_per_node_max: 64,
            slice_crashes_per_minute: 2,
            quarantine_max: 1_024,
            quarantine_us: 3_600_000_000,
            moves_max: 256,
            groups_max: 4_096,
            requests_max: 4_096,
            txn_resend_us: 500_000,
            broken: None,
        }
    }
}
