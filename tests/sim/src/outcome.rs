//! One run from its seed to its verdict.

use crate::network::Endpoint;
use crate::node_process::NodeProcess;
use crate::oracle::Violation;
use crate::world::{Plan, World};
use escape_proto::{LeaseState, Mode, NodeState, SliceId};
use std::collections::BTreeSet;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first broken promise, if any.
    pub violation: Option<Violation>,
    /// Steps (messages, packets, faults).
    pub steps: u64,
    /// Simulated time, microseconds.
    pub simulated_us: u64,
    /// Hash over all steps.
    pub hash: u64,
    /// Replies that clients got.
    pub served: u64,
    /// Frames released.
    pub releases: u64,
    /// Activations that had slices.
    pub activations: u64,
    /// Groups that a node brought back when it joined anew.
    pub claims: u64,
    /// Leases given once more, after all slices in them had ended.
    pub leases_again: u64,
    /// Slices given up in the store.
    pub quarantined: u64,
    /// Requests that killed a guest.
    pub poisonings: u64,
    /// Groups lost (legally).
    pub lost_groups: u64,
    /// Sessions given up.
    pub given_up: u64,
}

/// Time for the cell to be whole again after the last fault, microseconds.
const HEALING_US: u64 = 3_000_000;
/// Longest simulated safety phase, microseconds (a run whose cell is quiet ends by this).
const SAFETY_US_MAX: u64 = 20_000_000;

/// Runs a plan to its end or to the first broken promise.
pub fn run(plan: Plan) -> Outcome {
    let seed = plan.seed;
    let steps = plan.steps;
    let mut world = World::new(plan);
    while world.oracle.violation.is_none() && world.steps < steps && world.now < SAFETY_US_MAX && world.step() {}
    if world.oracle.violation.is_none() {
        world.tell(|| "all faults end".to_owned());
        world.heal();
        let healed_at = world.now;
        while world.oracle.violation.is_none() && world.now < healed_at + HEALING_US && world.step() {}
        if world.oracle.violation.is_none() {
            judge_whole(&mut world, healed_at);
        }
    }
    Outcome {
        seed,
        violation: world.oracle.violation.clone(),
        steps: world.steps,
        simulated_us: world.now,
        hash: world.hash,
        served: world.clients.iter().map(|c| c.served).sum(),
        releases: world.oracle.releases,
        activations: world.oracle.activations,
        claims: world.oracle.claims,
        leases_again: world.oracle.leases_again,
        quarantined: world.oracle.quarantined,
        poisonings: world.oracle.poisonings,
        lost_groups: world.oracle.lost_groups,
        given_up: world.clients.iter().map(|c| c.given_up).sum(),
    }
}

/// I11: some time after the last fault everything is protected, steered, and moving.
fn judge_whole(world: &mut World, healed_at: u64) {
    let mut found: Vec<String> = Vec::new();
    let store = &world.store.state;
    let hosts: BTreeSet<&str> = store.nodes().filter(|n| n.state == NodeState::Up).map(|n| n.host.as_str()).collect();
    for n in 0..world.nodes.len() {
        if world.member_of(Endpoint::Node(n)).is_none_or(|m| !store.node(m.node).is_some_and(|r| r.is_up(m))) {
            found.push(format!("node {n} is not in the cell"));
        }
    }
    for r in store.groups().filter(|r| r.mode != Mode::Lost) {
        if hosts.len() > 1 && r.mode != Mode::Paired {
            found.push(format!("group {} is not protected: {r:?}", r.group));
        }
        let steered = world.fabric.groups.get(&r.group);
        if steered.is_none_or(|s| s.owner != r.owner || s.mirror != r.standby || s.epoch != r.epoch) {
            found.push(format!("group {} is not steered as its record says: {r:?}, {steered:?}", r.group));
        }
    }
    for (n, place) in world.nodes.iter().enumerate() {
        let Some(p) = &place.process else { continue };
        if let Some(since) = p.vmm.oldest_held().filter(|s| world.now > s + 500_000) {
            found.push(format!("node {n} has held a frame since {since}"));
        }
        if p.vmm.bodies.len() > 64 {
            found.push(format!("node {n} keeps {} bodies", p.vmm.bodies.len()));
        }
        let me = p.engine.me();
        for (slice, image) in &p.vmm.standby {
            let record = store.group(image.group);
            if record.is_none_or(|r| r.standby != me || me.is_none()) {
                found.push(format!("node {n} still has an image of slice {slice}: {record:?}"));
            }
        }
    }
    for record in store.quarantine().filter(|r| r.given_up) {
        let has = |p: &NodeProcess| p.vmm.own.contains_key(&record.slice) || p.vmm.standby.contains_key(&record.slice);
        if let Some(n) = world.nodes.iter().position(|place| place.process.as_ref().is_some_and(has)) {
            found.push(format!("node {n} has slice {}, which was given up", record.slice));
        }
    }
    for lease in store.leases().filter(|l| l.state == LeaseState::Draining) {
        let in_lease = |s: &SliceId| s.slot / 64 == lease.lease.0;
        let mut processes = world.nodes.iter().filter_map(|place| place.process.as_ref());
        if !processes.any(|p| p.vmm.own.keys().chain(p.vmm.standby.keys()).any(in_lease)) {
            found.push(format!("lease {} is not free, although nobody has a slice in it", lease.lease));
        }
    }
    for (c, client) in world.clients.iter().enumerate() {
        if world.now > client.stuck_since + 1_000_000 && client.stuck_since > healed_at + 1_000_000 {
            found.push(format!("client {c} is stuck since {}", client.stuck_since));
        }
    }
    if let Some(detail) = found.into_iter().next() {
        world.oracle.violate("I11", detail);
    }
}
