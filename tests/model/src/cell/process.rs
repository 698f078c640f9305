//! A node: the production engine, and the model of its VMM.

use super::bounds::Bounds;
use super::message::Queue;
use super::session::Session;
use super::vmm::Vmm;
use crate::part::shared;
use escape_engine::Mutant;
use escape_engine::node::{LeaseUse, NodeConfig, NodeEngine};
use escape_proto::{
    CheckpointHead, Epoch, GroupId, LeaseRecord, LeaseReport, LeaseSet, LeaseState, Member, NodeId, Revision, SliceId,
};
use std::collections::BTreeMap;

/// Nodes of the cell.
pub const NODES: usize = 3;

/// Something that a node has begun and not finished.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Local {
    /// A checkpoint waits to be applied (in order).
    Apply(Member, CheckpointHead, Session),
    /// A gate is being closed.
    GateClosed(GroupId, Epoch),
    /// A slice is on its way into the guest of this life.
    Plugged(GroupId, SliceId, u8),
}

/// A place for a node: what survives its process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodePlace {
    /// The process, if it runs.
    pub process: Option<Process>,
    /// Lives so far.
    pub lives: u8,
    /// Persisted: the highest store revision seen.
    pub seen: Revision,
    /// The node's clock, microseconds: it moves only when its timers run out.
    pub clock: u64,
}

/// A node's process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Which process of the node.
    pub life: u8,
    /// As whom it has joined; the engine forgets it when it learns of its death.
    pub joined: Option<Member>,
    /// The machine under test.
    pub engine: NodeEngine,
    /// The VMM.
    pub vmm: Vmm,
    /// Members at the other end of links.
    pub peers: [Option<Member>; NODES],
    /// The life that is over and whose images it still has, until it joins anew.
    pub former: Option<Member>,
    /// Leases that it allocates from.
    pub leases: Vec<LeaseRecord>,
    /// Leases that a guest which is no more allocated from.
    pub spent: LeaseSet,
    /// What it has begun.
    pub under_way: Vec<Local>,
    /// Bodies that the engine has not decided about.
    pub bodies: BTreeMap<u64, (CheckpointHead, Session)>,
    /// The guest runs.
    pub guest_up: bool,
    /// Guests so far.
    pub guest_life: u8,
}

shared!(NodePlace, Queue);

impl NodePlace {
    /// Where no process has run yet.
    pub const fn new() -> Self {
        Self { process: None, lives: 0, seen: Revision(0), clock: 0 }
    }

    /// This life of the node, if its process runs and is in the cell.
    pub fn member(&self) -> Option<Member> {
        self.process.as_ref().and_then(|p| p.engine.me())
    }
}

impl Process {
    /// A fresh one.
    pub fn new(n: usize, life: u8, bounds: &Bounds, broken: Option<Mutant>) -> Self {
        let config = NodeConfig {
            pause_limit_us: 100,
            cas_resend_us: 1,
            flip_resend_us: 1,
            probe_resend_us: 1,
            full_retry_us: 1,
            report_resend_us: 1,
            slots_low: 1,
            replace_after_us: if bounds.replaces { 1 } else { u64::MAX },
            sync_stall_us: 1 << 40,
            calm_us: 0,
            waiting_per_group_max: 8,
            waiting_max: 16,
            broken,
            ..NodeConfig::new(NodeId(n as u16), format!("host {n}"))
        };
        Self {
            life,
            joined: None,
            engine: NodeEngine::new(config),
            vmm: Vmm::default(),
            peers: [None; NODES],
            former: None,
            leases: Vec::new(),
            spent: LeaseSet::default(),
            under_way: Vec::new(),
            bodies: BTreeMap::new(),
            guest_up: true,
            guest_life: 1,
        }
    }

    /// A mark of this guest's life, for the digests of what it serves.
    pub const fn salt(&self, n: usize) -> u64 {
        (n as u64) << 16 | (self.life as u64) << 8 | self.guest_life as u64
    }

    /// Leases as the records have them: own ones that it may allocate from, and those that the store has taken back.
    pub fn take_leases(&mut self, records: Vec<LeaseRecord>) {
        for record in records {
            self.leases.retain(|l| l.lease != record.lease);
            let mine = Some(record.holder) == self.engine.me() && record.state == LeaseState::Active;
            if !mine {
                self.spent.remove(record.lease);
            } else if !self.spent.contains(record.lease) {
                self.leases.push(record);
            }
        }
    }

    /// The guest has forgotten which slots it gave: those in use live on elsewhere.
    pub fn spend_leases(&mut self) {
        for lease in std::mem::take(&mut self.leases) {
            self.spent.insert(lease.lease);
            self.vmm.slots_taken.retain(|slot| slot / 64 != lease.lease.0);
        }
    }

    /// What the node says about its leases.
    pub fn lease_report(&self, slots: u32) -> Option<LeaseReport> {
        let free = |l: &LeaseRecord| (slot(l)..slot(l) + slots).filter(|s| !self.vmm.slots_taken.contains(s)).count();
        let free_slots = self.leases.iter().map(free).sum::<usize>() as u32;
        let active = self.leases.len() as u32;
        self.engine.lease_report(LeaseUse { active, free_slots, spent: self.spent.clone() })
    }

    /// Keeps a body under a name that is free.
    pub fn keep_body(&mut self, head: CheckpointHead, state: Session) -> u64 {
        let name = (1..).find(|name| !self.bodies.contains_key(name)).unwrap_or(0);
        self.bodies.insert(name, (head, state));
        name
    }

    /// The lowest free slot of the node's leases, with its next incarnation.
    pub fn take_slot(&mut self, slots: u32) -> Option<SliceId> {
        for lease in &self.leases {
            for slot in slot(lease)..slot(lease) + slots {
                if self.vmm.slots_taken.insert(slot) {
                    let counter = self.vmm.slot_counters.entry(slot).or_insert(0);
                    *counter += 1;
                    return Some(SliceId { slot, inc: u64::from(lease.generation) << 32 | u64::from(*counter) });
                }
            }
        }
        None
    }
}

/// The first slot of a lease.
const fn slot(lease: &LeaseRecord) -> u32 {
    lease.lease.0 * 64
}
