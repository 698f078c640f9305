//! The capsule of a TCP connection that a Linux kernel holds: everything that another kernel needs to go on with it, so that
//! the client does not notice.
//!
//! [`Frozen::freeze`] takes it out of a socket, [`TcpCapsule::restore`] makes a socket of it. In between the capsule is bytes
//! ([`TcpCapsule::encode`]) that lie in a slice like any other layer's. Both need CAP_NET_ADMIN, and a network that brings the
//! kernel nothing of the connection meanwhile: a kernel that has the address and not the connection answers with a reset.
//!
//! Source: TCP_REPAIR (tcp(7), the kernel's net/ipv4/tcp.c). Of the connection's state the congestion window, the measured
//! round trip and segments that came out of order are not in it: they cost retransmissions, never data.

mod capsule;
mod error;
mod freeze;
mod restore;
mod socket;
mod watch;

pub use capsule::{QUEUE_BYTES_MAX, TcpCapsule, TcpOptions, Window};
pub use error::{DecodeError, TcpError};
pub use freeze::Frozen;
pub use restore::Prepared;
pub use watch::{ask_again, given, is_closed, outstanding, peer_window, segments_heard, silence};
