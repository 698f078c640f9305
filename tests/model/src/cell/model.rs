//! The cell as a model to be explored.

use super::action::Action;
use super::bounds::Bounds;
use super::prologue::{Told, settled};
use super::step::{Step, possible};
use super::world::World;
use crate::promises::{ENGINE, GATE, I1, I2, I3, I5, I9, JOIN, LEASES, MIRROR};
use crate::report::{Broken, Explored};
use escape_engine::Mutant;
use stateright::{Model, Property};

/// A configuration, with or without a deliberate fault.
#[derive(Clone, Debug)]
pub struct CellModel {
    /// The configuration.
    pub bounds: Bounds,
    /// The deliberate fault.
    pub mutant: Option<Mutant>,
    start: World,
    prologue: Vec<Told>,
}

impl CellModel {
    /// A model whose cell is whole.
    ///
    /// # Errors
    /// The cell could not be made whole: for people.
    pub fn new(bounds: Bounds, mutant: Option<Mutant>) -> Result<Self, String> {
        let (start, prologue) = settled(&bounds, mutant)?;
        Ok(Self { bounds, mutant, start, prologue })
    }
}

fn kept(world: &World, promise: &str) -> bool {
    world.broken.as_ref().is_none_or(|b| b.promise != promise)
}

impl Model for CellModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.start.clone()]
    }

    fn actions(&self, state: &World, actions: &mut Vec<Action>) {
        possible(&self.bounds, state, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut step = Step::new(&self.bounds, self.mutant, last.clone());
        step.take(action);
        Some(step.world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I1, |_, w| kept(w, I1)),
            Property::always(I2, |_, w| kept(w, I2)),
            Property::always(I5, |_, w| kept(w, I5)),
            Property::always(I9, |_, w| kept(w, I9)),
            Property::always(GATE, |_, w| kept(w, GATE)),
            Property::always(MIRROR, |_, w| kept(w, MIRROR)),
            Property::always(LEASES, |_, w| kept(w, LEASES)),
            Property::always(I3, |_, w| kept(w, I3)),
            Property::always(JOIN, |_, w| kept(w, JOIN)),
            Property::always(ENGINE, |_, w| kept(w, ENGINE)),
        ]
    }
}

impl Explored for CellModel {
    fn broken(state: &World) -> Option<Broken> {
        state.broken.as_deref().cloned()
    }

    fn prologue(&self) -> &[Told] {
        &self.prologue
    }

    fn narrate(&self, from: &World, action: Action) -> (String, Vec<String>) {
        let mut step = Step::new(&self.bounds, self.mutant, from.clone());
        step.told = Some(Vec::new());
        step.take(action);
        (action.to_string(), step.told.unwrap_or_default())
    }
}
