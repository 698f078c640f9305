//! Moves as a model to be explored.

use super::flaw::Flaw;
use super::state::State;
use super::step::{Action, possible, take};
use crate::promises::{I1, I2, I5, I9};
use crate::report::{Broken, Explored};
use stateright::{Model, Property};

/// The abstract model of moves.
#[derive(Clone, Debug)]
pub struct MovesModel {
    /// The rule that is left out.
    pub flaw: Option<Flaw>,
}

fn kept(s: &State, promise: &str) -> bool {
    s.broken.as_ref().is_none_or(|b| b.promise != promise)
}

impl Model for MovesModel {
    type State = State;
    type Action = Action;

    /// The standby of the group left is a third node or the target; that of the group joined a third node or the source.
    fn init_states(&self) -> Vec<State> {
        [[2, 2], [1, 2], [2, 0], [1, 0]].map(State::start).to_vec()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        possible(state, self.flaw, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        take(&mut next, self.flaw, action);
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I1, |_, s| kept(s, I1)),
            Property::always(I2, |_, s| kept(s, I2)),
            Property::always(I5, |_, s| kept(s, I5)),
            Property::always(I9, |_, s| kept(s, I9)),
        ]
    }
}

impl Explored for MovesModel {
    fn broken(state: &State) -> Option<Broken> {
        state.broken.clone()
    }

    fn narrate(&self, _from: &State, action: Action) -> (String, Vec<String>) {
        (format!("{action:?}"), Vec::new())
    }
}
