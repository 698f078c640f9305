//! Errors of freezing and restoring.

use std::io;
use std::net::SocketAddrV4;

/// Why a connection could not be taken out or put in.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// A call to the kernel.
    #[error("{call}: {source}{}", advice(source))]
    Call {
        /// Which.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Only open connections can go on elsewhere.
    #[error("the connection is {state}: only one that is open both ways can be taken out")]
    State {
        /// What it is.
        state: &'static str,
    },
    /// It is not over IPv4.
    #[error("only connections over IPv4 can be taken out")]
    Family,
    /// It holds more than a slice may.
    #[error("{bytes} bytes wait in the connection's {queue} queue; at most {max} can be taken along")]
    TooMuch {
        /// Which queue.
        queue: &'static str,
        /// Bytes in it.
        bytes: usize,
        /// The most.
        max: usize,
    },
    /// The kernel gave less than it said it had: somebody else reads from the socket.
    #[error("the {queue} queue changed while it was read: the socket must be at rest")]
    NotAtRest {
        /// Which queue.
        queue: &'static str,
    },
    /// The new socket took less than it was given.
    #[error("the new socket's {queue} queue took only a part; connection of {peer}")]
    NoRoom {
        /// Which queue.
        queue: &'static str,
        /// Whose connection.
        peer: SocketAddrV4,
    },
}

/// Why bytes are no capsule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too few or too many.
    #[error("the capsule has a wrong length")]
    Length,
    /// Another version's, or none.
    #[error("not a capsule of version {}", crate::capsule::VERSION)]
    Version,
    /// A value that no kernel gives.
    #[error("{0} of the capsule makes no sense")]
    Value(&'static str),
}

impl TcpError {
    pub(crate) fn call(call: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Call { call, source }
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => " (CAP_NET_ADMIN is needed in the socket's network namespace)",
        Some(libc::EADDRNOTAVAIL) => " (the address is not this machine's)",
        Some(libc::EADDRINUSE) => " (this machine has that connection already)",
        Some(libc::ENOPROTOOPT) => " (this kernel has no TCP_REPAIR: CONFIG_CHECKPOINT_RESTORE is off)",
        _ => "",
    }
}
