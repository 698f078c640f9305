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
    /// The agent cannot be started.
    #[error("starting the agent: {0}")]
    Start(io::Error),
    /// The memory in which the agent writes down what is in which slot.
    #[error("the agent's book of slots: {0}; it is of another arena if that is \"invalid data\"")]
    Book(io::Error),
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
    /// Not a guest of a cell.
    #[error("this guest is no cell's: its kernel's command line has no \"escape.cell=\" and \"escape.ip=\"")]
    NoCell,
    /// A kernel setting.
    #[error("{setting}: {source}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The route.
    #[error("the default route by eth0: {source}; is the module virtio_net loaded?")]
    Route {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The control pages are not the host's, or there is no such slot.
    #[error("the control pages are not as the host makes them")]
    ControlPages,
    /// A process does not keep to the protocol.
    #[error("a process said what this agent does not know")]
    Nonsense,
    /// Something of a slice or a process.
    #[error(transparent)]
    Process(#[from] escape_process::ProcessError),
    /// The host went away.
    #[error("telling the report: {0}")]
    Tell(io::Error),
}
