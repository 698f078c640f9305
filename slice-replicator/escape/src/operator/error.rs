//! Why a question had no answer.

use std::net::SocketAddr;
use std::time::Duration;

/// Errors of the question.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The operator's keys.
    #[error(transparent)]
    Identity(#[from] escape_link::PkiError),
    /// The keys are another process's.
    #[error("the secrets are those of {found}: `escape cell init` makes some for an operator")]
    WrongSecrets {
        /// Whose they are.
        found: String,
    },
    /// The link could not be made, or ended.
    #[error(transparent)]
    Link(#[from] escape_link::LinkError),
    /// No answer.
    #[error("the orchestrator at {orchestrator} did not answer within {limit:?} (does it run, is the address right?)")]
    Silent {
        /// Its address.
        orchestrator: SocketAddr,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The operating system.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}
