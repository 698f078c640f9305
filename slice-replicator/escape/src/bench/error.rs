//! Why a measurement ended without figures.

use crate::cell::CellSetupError;
use crate::drill::{CellError, DrillError};
use crate::load::LoadError;

/// Errors of a measurement.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The cell could not be set up.
    #[error("{which}: {source}")]
    Setup {
        /// Which cell or network.
        which: &'static str,
        /// Why.
        source: CellSetupError,
    },
    /// The cell did not come up.
    #[error("{which}: {source}")]
    Cell {
        /// Which cell.
        which: &'static str,
        /// Why.
        source: CellError,
    },
    /// The clients.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A drill without an end.
    #[error(transparent)]
    Drill(#[from] DrillError),
    /// A socket.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The service did not answer as it must.
    #[error("{what}: {detail}")]
    Answer {
        /// To what.
        what: String,
        /// What came.
        detail: String,
    },
}

impl BenchError {
    /// For `map_err` at a system call.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// For `map_err` at the set-up of a cell.
    pub fn setup<E: Into<CellSetupError>>(which: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Setup { which, source: source.into() }
    }
}
