//! Links between the processes of a cell: TLS 1.3 over TCP, both ends named by certificates of the cell's own
//! authority, bounded frames, nothing that blocks.
//!
//! A [`Link`] is driven by the caller's poll loop: [`Link::on_event`] tells it what the socket can do,
//! [`Link::recv`] hands out frames, [`Link::send`] stages messages and [`Link::flush`] puts all that were staged in
//! one loop turn on the wire together. A [`Listener`] accepts, and hands a link out only when the peer has shown its
//! certificate and its [`escape_proto::Hello`] has been checked. `docs/decision-link.md` says why it is built so.
#![forbid(unsafe_code)]

mod accept_rate;
mod error;
mod frame_queue;
mod frame_reader;
mod greeting;
mod identity;
mod limits;
mod link;
mod link_counters;
mod listener;
mod log_limit;
mod peer;
mod peer_frame;
pub mod pki;
mod tls_stream;

pub use error::{HelloFault, LinkError, LinkFault, Remote};
pub use greeting::RoleSet;
pub use identity::Identity;
pub use limits::{LinkLimits, ListenerLimits};
pub use link::Link;
pub use link_counters::LinkCounters;
pub use listener::{ListenError, Listener, ListenerCounters};
pub use log_limit::LogLimit;
pub use peer::Peer;
pub use peer_frame::PeerFrame;
pub use pki::{CellName, ClusterAuthority, ClusterSecrets, HeartbeatKey, PkiError};
