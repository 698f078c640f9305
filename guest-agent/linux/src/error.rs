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
    /// The arena cannot be mapped.
    #[error("the arena by {device}: {source}; does the image file have \"slots\"?")]
    Arena {
        /// The device.
        device: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Slices of another guest would not find their memory.
    #[error("the arena lies at {at:#x}, but must lie at {wanted:#x} as in every guest of the cell")]
    ArenaElsewhere {
        /// Where it is.
        at: u64,
        /// Where it must be.
        wanted: u64,
    },
    /// Not a word of the arena.
    #[error(
        "usage: escape-agent [peek OFFSET | poke OFFSET NUMBER], with an offset that is a multiple of 8 below {bytes}"
    )]
    Usage {
        /// The arena's size.
        bytes: usize,
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
