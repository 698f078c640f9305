//! A misbehaving guest in a real VM, on the commit path that a node runs.

mod commits;
mod guest_messages;
mod host;
mod screen;
mod wire;

pub use host::{BAD, HONEST, Host, N_SLOTS};
pub use wire::tcp_payload;
