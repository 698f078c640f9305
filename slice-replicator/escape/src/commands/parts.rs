//! `escape node`, `escape edge`, `escape orchestrator`: the parts of a cell, each a process.

use super::CommandError;
use crate::cli::PartArgs;
use crate::config::ReplicationFile;
use crate::exit::Exit;

/// Runs a node until it is told to stop.
pub fn node(args: &PartArgs) -> Result<Exit, CommandError> {
    let _cell = ReplicationFile::read(&args.config)?;
    Err(CommandError::NotAvailable("escape node"))
}

/// Runs the edge until it is told to stop.
pub fn edge(args: &PartArgs) -> Result<Exit, CommandError> {
    let _cell = ReplicationFile::read(&args.config)?;
    Err(CommandError::NotAvailable("escape edge"))
}

/// Runs the orchestrator until it is told to stop.
pub fn orchestrator(args: &PartArgs) -> Result<Exit, CommandError> {
    let _cell = ReplicationFile::read(&args.config)?;
    Err(CommandError::NotAvailable("escape orchestrator"))
}
