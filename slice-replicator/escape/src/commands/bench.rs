//! `escape bench`: figures.

use super::CommandError;
use crate::cli::Bench;
use crate::exit::Exit;

/// Measures what is asked for.
pub fn run(what: &Bench) -> Result<Exit, CommandError> {
    match what {
        Bench::Latency { .. } => Err(CommandError::NotAvailable("escape bench latency")),
        Bench::Boot { .. } => Err(CommandError::NotAvailable("escape bench boot")),
    }
}
