//! Why a process could not start, or had to end.

use escape_engine::UnknownMutant;
use escape_fabric::arp::ArpError;
use escape_fabric::fabric::FabricError;
use escape_fabric::links::LinkError;
use escape_fabric::netns::NetNsError;
use escape_link::{ListenError, PkiError};
use escape_store::StoreError;
use std::io;
use std::net::SocketAddr;

/// What ended the orchestrator or the edge.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Keys or certificates.
    #[error(transparent)]
    Identity(#[from] PkiError),
    /// The secrets are another process's.
    #[error("the secrets are those of {found}, this is the {wanted}")]
    WrongSecrets {
        /// Whose they are.
        found: String,
        /// Whose they should be.
        wanted: &'static str,
    },
    /// The address for links.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The address for heartbeats.
    #[error("cannot receive heartbeats on {addr}: {source}")]
    Beats {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The store's file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nodes place flows by the store's seed, the edge by that of its secrets.
    #[error("{store}: made with another placement seed than the secrets have: use the authority that it was made with")]
    OtherSeed {
        /// The store.
        store: String,
    },
    /// Nobody could read the metrics.
    #[error(transparent)]
    Metrics(#[from] escape_metrics::MetricsError),
    /// The name of a deliberate fault.
    #[error(transparent)]
    Broken(#[from] UnknownMutant),
    /// The steering tables.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// Interfaces.
    #[error(transparent)]
    Interfaces(#[from] LinkError),
    /// The network namespace.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// The answers for the service's address.
    #[error(transparent)]
    Arp(#[from] ArpError),
    /// A file or descriptor to write events to.
    #[error("{what}: {source}")]
    Output {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The system failed in a way that leaves nothing to do.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl ProcessError {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
