//! The orchestrator with its store, and the edge with its fabric.

use super::process::NODES;
use crate::part::shared;
use escape_engine::edge::{EdgeConfig, EdgeMachine, GroupSteering};
use escape_engine::orchestrator::{Orchestrator, OrchestratorConfig};
use escape_engine::store::{StoreState, Txn};
use escape_engine::{Mutant, SuspicionConfig};
use escape_proto::{GroupId, Member};

/// The orchestrator's process and the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Control {
    /// The machine under test.
    pub machine: Orchestrator,
    /// Its clock, microseconds: it moves with each decision about a death.
    pub now: u64,
    /// What is durable.
    pub store: StoreState,
    /// What was durable one transaction before (only for the fault of forgetting).
    pub before: Option<Box<StoreState>>,
    /// The transaction that is on its way to the store.
    pub txn: Option<(u64, Txn)>,
    /// Which life of a node's process has the link.
    pub links: [Option<u8>; NODES],
    /// Members at the other end of links.
    pub members: [Option<Member>; NODES],
    /// Decided dead by this orchestrator.
    pub condemned: [Option<Member>; NODES],
}

/// The edge's process and the fabric, which goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeSide {
    /// The machine under test.
    pub machine: EdgeMachine,
    /// What the fabric does, per group.
    pub steering: [Option<GroupSteering>; GROUPS],
}

shared!(Control, EdgeSide);

/// Groups that sessions may be in: two that they are opened in, and those that lives and moves make.
const GROUPS: usize = 8;

/// Silence after which a node is suspected.
pub const SILENCE_US: u64 = 1_000;
/// How long an orphaned group is kept for a process that brings its copy.
pub const CLAIM_US: u64 = 1_000_000;

impl Control {
    /// An orchestrator with an empty store.
    pub fn new(groups_per_node: u32, broken: Option<Mutant>) -> Self {
        Self {
            machine: machine(groups_per_node, broken),
            now: 0,
            store: StoreState::default(),
            before: None,
            txn: None,
            links: [None; NODES],
            members: [None; NODES],
            condemned: [None; NODES],
        }
    }
}

/// An orchestrator that has read nothing yet.
pub fn machine(groups_per_node: u32, broken: Option<Mutant>) -> Orchestrator {
    let suspicion =
        SuspicionConfig { suspect_after_us: SILENCE_US - 1, progress_timeout_us: u64::MAX, own_pause_us: u64::MAX };
    Orchestrator::new(OrchestratorConfig {
        new_cluster: [7; 16],
        suspicion,
        double_fault_after_us: 0,
        groups_per_node,
        claim_us: CLAIM_US,
        leases_max: 8,
        txn_resend_us: u64::MAX,
        broken,
        ..OrchestratorConfig::default()
    })
}

impl EdgeSide {
    /// An edge that knows nothing.
    pub fn new(broken: Option<Mutant>) -> Self {
        let machine = EdgeMachine::new(EdgeConfig { broken, ..EdgeConfig::default() });
        Self { machine, steering: [None; GROUPS] }
    }

    /// Who gets the packets of a group's flows.
    pub fn steering(&self, group: GroupId) -> Option<GroupSteering> {
        self.steering.get(group.0 as usize).copied().flatten()
    }
}
