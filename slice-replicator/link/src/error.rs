//! What ends a link, or keeps a message from being sent.

use crate::pki::role_label;
use escape_proto::{CodecError, FRAME_MAX, Incarnation, Role};
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// The other end, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its address.
    pub addr: SocketAddr,
    /// Its role: the one wanted when connecting, the one proved when accepting.
    pub role: Option<Role>,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Some(role) => write!(f, "{} at {}", role_label(role), self.addr),
            None => write!(f, "unknown peer at {}", self.addr),
        }
    }
}

/// A fault of one link, with the peer's address and role.
#[derive(Debug, thiserror::Error)]
#[error("link to {remote}: {fault}")]
pub struct LinkError {
    /// The other end.
    pub remote: Remote,
    /// What happened.
    #[source]
    pub fault: LinkFault,
}

impl LinkError {
    /// The message was not staged, the link lives: try again after a flush, or give up on the receiver.
    pub const fn is_congested(&self) -> bool {
        matches!(self.fault, LinkFault::Congested { .. })
    }
    /// The link is gone; everything but [`LinkFault::Congested`], and messages that are themselves too long.
    pub const fn is_fatal(&self) -> bool {
        !matches!(self.fault, LinkFault::Congested { .. } | LinkFault::Unsendable(_))
    }
}

/// What happened to a link.
#[derive(Debug, thiserror::Error)]
pub enum LinkFault {
    /// The outgoing buffer is full (policy: the caller is told, nothing is dropped that was staged).
    #[error("congested: {queued} bytes wait, {wanted} more would pass the limit of {limit}")]
    Congested {
        /// Bytes that wait.
        queued: usize,
        /// Bytes of the message.
        wanted: usize,
        /// The limit.
        limit: usize,
    },
    /// The message given to send is too long or cannot be encoded.
    #[error("message cannot be sent: {0}")]
    Unsendable(CodecError),
    /// The link was already reported dead, or is not open yet.
    #[error("not open")]
    NotOpen,
    /// The connection could not be made.
    #[error("cannot connect: {}", advice(.0))]
    Connect(io::Error),
    /// The socket failed.
    #[error("{}", advice(.0))]
    Socket(io::Error),
    /// TLS failed: foreign certificate, damaged or foreign bytes.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Handshake and hello took too long.
    #[error("handshake not finished within {limit_ms} ms")]
    HandshakeTimeout {
        /// The limit.
        limit_ms: u128,
    },
    /// The handshake was dropped to make room for newer ones.
    #[error("dropped: {pending_max} handshakes are under way")]
    Crowded {
        /// The limit.
        pending_max: usize,
    },
    /// The peer's hello was refused here.
    #[error("hello refused: {0}")]
    HelloRefused(#[from] HelloFault),
    /// The peer refused this end's hello.
    #[error("refused by the peer: {cause}")]
    RefusedByPeer {
        /// What it said.
        cause: String,
    },
    /// A length prefix is over the limit; nothing was allocated for it.
    #[error("frame of {len} bytes announced, limit {limit}")]
    Oversize {
        /// What it claims.
        len: usize,
        /// The limit in this phase.
        limit: usize,
    },
    /// A frame is not the message expected.
    #[error("{0}")]
    Malformed(#[from] CodecError),
    /// The peer closed in good order.
    #[error("closed by the peer")]
    Closed,
    /// The stream ended without the peer's farewell, or inside a frame.
    #[error("stream ended without farewell, {partial} bytes into a frame")]
    Truncated {
        /// Bytes of an unfinished frame.
        partial: usize,
    },
}

/// Why a hello was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloFault {
    /// Other protocol version.
    #[error("protocol version {theirs}, this end speaks {ours}")]
    Version {
        /// The peer's.
        theirs: u32,
        /// Own.
        ours: u32,
    },
    /// Other cluster.
    #[error("another cluster: {}, this end is of {}", short(.theirs), short(.ours))]
    Cluster {
        /// The peer's.
        theirs: [u8; 16],
        /// Own.
        ours: [u8; 16],
    },
    /// The hello names a role that the certificate does not.
    #[error("certificate does not speak for {}", role_label(*.claimed))]
    Role {
        /// What the hello says.
        claimed: Role,
    },
    /// The role has no business here.
    #[error("{} is not admitted here", role_label(*.role))]
    NotAdmitted {
        /// The role.
        role: Role,
    },
    /// The answer came from another role than was called.
    #[error("{} answered, {} was called", role_label(*.found), role_label(*.wanted))]
    OtherRole {
        /// Who answered.
        found: Role,
        /// Who was called.
        wanted: Role,
    },
    /// One end is not the life that the other expects.
    #[error("incarnation {expected} was expected, this is {found}")]
    Incarnation {
        /// Expected life.
        expected: Incarnation,
        /// Life found.
        found: Incarnation,
    },
    /// A channel number that does not exist.
    #[error("channel {channel} does not exist")]
    Channel {
        /// The number.
        channel: u8,
    },
}

fn short(cluster: &[u8; 16]) -> String {
    cluster.iter().take(4).map(|b| format!("{b:02x}")).collect()
}

/// errno → what to do about it.
fn advice(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there: is the process running, is the address right?",
        io::ErrorKind::TimedOut => "no answer: host down, or packets are dropped on the way",
        io::ErrorKind::ConnectionReset => "the peer's host knows no such connection: its process ended",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "no route: check addresses and interfaces"
        }
        io::ErrorKind::AddrInUse => "another process has this address: choose another port or end it",
        io::ErrorKind::AddrNotAvailable => "this host does not have that address",
        _ => return error.to_string(),
    };
    format!("{error} ({hint})")
}

const _: () = assert!(FRAME_MAX <= u32::MAX as usize, "length prefixes are u32");
