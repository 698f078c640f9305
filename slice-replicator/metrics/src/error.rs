//! Why metrics cannot be served.

use std::io;
use std::net::SocketAddr;

/// Errors of a [`MetricsServer`](crate::MetricsServer).
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address.
    #[error("cannot serve metrics on {address}: {source} (is the address this host's, is another process there?)")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Something of the operating system that must not fail.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl MetricsError {
    pub(crate) fn os(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { what, source }
    }
}
