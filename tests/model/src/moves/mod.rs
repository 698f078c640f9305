//! Moves (T9) as the design has them: an abstract model, since no production code makes moves yet.
//!
//! Three nodes, two groups, one slice that moves from one into the other while its client asks, nodes die, are declared
//! dead though they live, and groups get new owners and standbys.

mod flaw;
mod model;
mod state;
mod step;

pub use flaw::Flaw;
pub use model::MovesModel;
pub use state::State;
pub use step::Action;
