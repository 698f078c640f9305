//! Errors of virtio-vsock.

use std::io;
use std::path::PathBuf;

/// Why a guest's vsock could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// A reserved context id.
    #[error("{cid} cannot be a guest's context id: they are from 3 to 4294967294")]
    Cid {
        /// The id.
        cid: u32,
    },
    /// Somebody listens there.
    #[error("{}: another program listens on this socket; give each guest one of its own", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("{}: {source}", path.display())]
    Listen {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No epoll.
    #[error("epoll of virtio-vsock: {0}")]
    Epoll(io::Error),
}
