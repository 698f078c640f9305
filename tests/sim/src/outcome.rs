//! One run from its seed to its verdict.

use crate::counts::Counts;
use crate::oracle::Violation;
use crate::world::{Plan, World};

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
    /// What happened in it.
    pub counts: Counts,
}

/// Time for the cell to be whole again after the last fault, microseconds.
const HEALING_US: u64 = 3_000_000;
/// A cell that has been whole for so long, microseconds, is not looked at any longer: it is more than the longest pause between
/// two steps of any process that still has something to do.
const WHOLE_US: u64 = 250_000;
/// Time between looks, microseconds.
const LOOK_EVERY_US: u64 = 50_000;
/// One seed in so many is watched for all of [`HEALING_US`] all the same.
const WATCHED_TO_THE_END: u64 = 20;
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
        live_on(&mut world);
    }
    Outcome {
        seed,
        violation: world.oracle.violation.clone(),
        steps: world.steps,
        simulated_us: world.now,
        hash: world.hash,
        counts: Counts {
            served: world.clients.iter().map(|c| c.served).sum(),
            releases: world.oracle.releases,
            activations: world.oracle.activations,
            claims: world.oracle.claims,
            moved: world.oracle.moved,
            leases_again: world.oracle.leases_again,
            quarantined: world.oracle.quarantined,
            poisonings: world.oracle.poisonings,
            lost_groups: world.oracle.lost_groups,
            given_up: world.clients.iter().map(|c| c.given_up).sum(),
            faults: world.faults_made,
        },
    }
}

/// The liveness phase (I11): the cell must become whole.
fn live_on(world: &mut World) {
    let healed_at = world.now;
    let to_the_end = world.plan.seed.is_multiple_of(WATCHED_TO_THE_END);
    let mut whole_since = None;
    let mut look_at = healed_at + LOOK_EVERY_US;
    while world.oracle.violation.is_none() && world.now < healed_at + HEALING_US && world.step() {
        if to_the_end || world.now < look_at {
            continue;
        }
        look_at = world.now + LOOK_EVERY_US;
        if world.what_is_missing(healed_at).is_some() || world.someone_waits() {
            whole_since = None;
        } else if world.now >= *whole_since.get_or_insert(world.now) + WHOLE_US {
            return;
        }
    }
    if world.oracle.violation.is_none()
        && let Some(detail) = world.what_is_missing(healed_at)
    {
        world.oracle.violate("I11", detail);
    }
}
