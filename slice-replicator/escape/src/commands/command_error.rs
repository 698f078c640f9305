//! Why a command ended early.

use crate::bench::BenchError;
use crate::cell::CellSetupError;
use crate::cell_directory::CellDirectoryError;
use crate::config::ConfigErrors;
use crate::drill::{CellError, DrillError};
use crate::exit::Exit;
use crate::load::LoadError;
use crate::operator::OperatorError;

/// An error at the outermost edge, with the exit code that belongs to it.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A configuration file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// No file and no shipped drill is called so.
    #[error("{name}: there is no such file, and the shipped drills are: {shipped}")]
    NoSuchDrill {
        /// As it was given.
        name: String,
        /// Those that there are.
        shipped: String,
    },
    /// The drill ended without a verdict.
    #[error(transparent)]
    Drill(#[from] DrillError),
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A part's configuration is wrong; the cause tells line and column where there is one.
    #[error("{}: {cause}", path.display())]
    PartConfig {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// A part of a cell ended with an error.
    #[error("{part}: {cause}")]
    Part {
        /// Which.
        part: &'static str,
        /// Why.
        cause: String,
    },
    /// A cell's directory could not be made.
    #[error(transparent)]
    Directory(#[from] CellDirectoryError),
    /// The cell could not be set up.
    #[error("the cell: {0}")]
    Cell(#[from] crate::cell::CellSetupError),
    /// The orchestrator's program is not this one's.
    #[error("the orchestrator answered something else than it was asked")]
    OtherAnswer,
    /// The orchestrator did not answer.
    #[error(transparent)]
    Operator(#[from] Box<OperatorError>),
    /// A measurement ended without figures.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// A guest's port was not reached.
    #[error("{}, port {port}: {cause}", socket.display())]
    Connect {
        /// The guest's socket.
        socket: std::path::PathBuf,
        /// Which port.
        port: u32,
        /// Why.
        cause: String,
    },
    /// A report could not be written.
    #[error("writing the report: {0}")]
    Report(#[from] serde_json::Error),
}

impl CommandError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::NoSuchDrill { .. } => Exit::Usage,
            Self::Drill(
                DrillError::Cell(CellError::Environment(_)) | DrillError::Load(LoadError::FileLimit { .. }),
            )
            | Self::Bench(
                BenchError::Load(LoadError::FileLimit { .. })
                | BenchError::Drill(DrillError::Load(LoadError::FileLimit { .. })),
            ) => Exit::Environment,
            Self::Cell(source) | Self::Bench(BenchError::Setup { source, .. }) if lacks_privileges(source) => {
                Exit::Environment
            }
            Self::Operator(error)
                if matches!(**error, OperatorError::WrongSecrets { .. } | OperatorError::Identity(_)) =>
            {
                Exit::Usage
            }
            Self::Read { .. } | Self::PartConfig { .. } => Exit::Usage,
            Self::Directory(
                CellDirectoryError::NotACell { .. }
                | CellDirectoryError::OtherCell { .. }
                | CellDirectoryError::Unreadable { .. },
            ) => Exit::Usage,
            Self::Directory(_)
            | Self::Part { .. }
            | Self::Cell(_)
            | Self::Bench(_)
            | Self::Operator(_)
            | Self::OtherAnswer
            | Self::Drill(_)
            | Self::Connect { .. }
            | Self::Report(_) => Exit::Broken,
        }
    }
}

const fn lacks_privileges(error: &CellSetupError) -> bool {
    matches!(error, CellSetupError::NetNs(_) | CellSetupError::Link(_) | CellSetupError::Tap(_))
}
