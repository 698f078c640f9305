//! The session capsule: what is served on a connection.

mod layer;
mod state;
mod stream;

pub(crate) use layer::SessionLayer;
pub(crate) use state::{ServedState, SessionKind};
