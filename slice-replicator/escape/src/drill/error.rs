//! Why a drill ended without a verdict.

use super::cell_trait::CellError;
use super::place::Place;
use crate::load::LoadError;

/// The drill could not be held. A broken promise is not an error: it is the result of a drill.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The cell did not do what was asked.
    #[error(transparent)]
    Cell(#[from] CellError),
    /// The clients could not do their work.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No session could be assigned to a node.
    #[error("round {round}: no node serves any of the {sessions} sessions (GET /session named none)")]
    NobodyServes {
        /// The round.
        round: u32,
        /// Sessions of the run.
        sessions: usize,
    },
    /// A fault's place does not exist in this cell at this moment.
    #[error("there is no node for a fault at {place}")]
    NoPlace {
        /// As the file says it.
        place: Place,
    },
}
