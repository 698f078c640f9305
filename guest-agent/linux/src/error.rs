//! Errors of the agent.

use std::io;

/// Why the agent could not serve.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// There is no virtio-vsock, or the port is taken.
    #[error(
        "port {port} of vsock: {source}; is the module vmw_vsock_virtio_transport loaded, and \"vsock\" in the image file?"
    )]
    Listen {
        /// Which port.
        port: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No more connections can be taken.
    #[error("accepting a connection: {0}")]
    Accept(io::Error),
    /// The shell did not start.
    #[error("{program}: {source}")]
    Shell {
        /// Which.
        program: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The host went away.
    #[error("telling the report: {0}")]
    Tell(io::Error),
}
