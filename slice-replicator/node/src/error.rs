//! Why a node ended.

use std::net::SocketAddr;

/// Errors that end a node process.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A value of the configuration is impossible.
    #[error("configuration: {0}")]
    Config(String),
    /// The VM could not be made.
    #[error("virtual machine: {0}")]
    Vm(#[from] escape_vmm::VmError),
    /// The guest's image.
    #[error("image {}: {source}", path.display())]
    Image {
        /// The file.
        path: std::path::PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// Keys or certificates do not fit.
    #[error("cluster identity: {0}")]
    Identity(#[from] escape_link::pki::PkiError),
    /// A listening socket.
    #[error("cannot listen on {address}: {source} (is another node running with this address?)")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// Nobody could read the metrics.
    #[error(transparent)]
    Metrics(#[from] escape_metrics::MetricsError),
    /// Something of the operating system that must not fail.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The orchestrator did not let the node in.
    #[error("the orchestrator refused this node: {0}")]
    JoinRefused(String),
}

impl NodeError {
    /// For `map_err` at a system call.
    pub(crate) const fn os(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Os { what, source }
    }
}
