//! The state that an exploration begins with: three nodes in the cell, two groups, both protected.

use super::action::Action;
use super::bounds::{Bounds, Budget};
use super::step::{PAIRS, Step, possible};
use super::world::World;
use escape_engine::Mutant;
use escape_proto::{GroupId, Mode};

/// Steps after which a cell that nobody disturbs must be quiet.
const STEPS_MAX: usize = 2_000;

/// Nodes 0 and 1 join with a group each, node 2 with none; the links are made; sessions are opened. Returns the state,
/// and the steps up to it with what was said in each.
///
/// # Errors
/// The cell does not become what it should be: for people.
pub fn settled(bounds: &Bounds, mutant: Option<Mutant>) -> Result<(World, Vec<Told>), String> {
    let mut steps = Vec::new();
    let mut world = World::new(1, mutant);
    let mut step = Step::new(bounds, mutant, world);
    let image = Box::default();
    step.tell_orchestrator(escape_engine::orchestrator::OrchestratorEvent::Started { image });
    step.run_soon();
    world = settle(bounds, mutant, step.world, &mut steps)?;
    for n in 0..3 {
        let mut step = Step::new(bounds, mutant, world);
        if n == 2 {
            step.world.control.edit().before = None;
            step.replace_orchestrator(true, 0);
        }
        step.start_node(n);
        step.run_soon();
        world = settle(bounds, mutant, step.world, &mut steps)?;
    }
    for (group, opened) in bounds.opened.into_iter().enumerate() {
        for _ in 0..opened {
            world.left.opens[group] = 1;
            let mut step = Step::new(bounds, mutant, world);
            step.take(Action::Open(GroupId(group as u32)));
            world = settle(bounds, mutant, step.world, &mut steps)?;
        }
    }
    let paired = world.control.store.groups().filter(|r| r.mode == Mode::Paired).count();
    if world.broken.is_none() && (paired != 2 || !PAIRS.iter().all(|(a, b)| world.is_linked(*a, *b))) {
        let records: Vec<_> = world.control.store.groups().collect();
        return Err(format!("the cell is not whole before the exploration: {records:?}"));
    }
    world.left = bounds.budget;
    Ok((world, steps))
}

/// A step for people, and what was said in it.
pub type Told = (String, Vec<String>);

/// Lets happen what is on its way, until nothing is.
fn settle(bounds: &Bounds, mutant: Option<Mutant>, mut world: World, steps: &mut Vec<Told>) -> Result<World, String> {
    world.left = Budget::default();
    for _ in 0..STEPS_MAX {
        world.seal();
        let mut actions = Vec::new();
        possible(bounds, &world, &mut actions);
        let Some(action) = actions.first() else { return Ok(world) };
        let mut step = Step::new(bounds, mutant, world);
        step.told = Some(Vec::new());
        step.take(*action);
        steps.push((action.to_string(), step.told.take().unwrap_or_default()));
        world = step.world;
    }
    Err(format!("the cell is not quiet after {STEPS_MAX} steps"))
}
