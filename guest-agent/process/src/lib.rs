//! Slices of Linux processes: what a server links to make its connections outlive its machine.
//!
//! A server registers its ports with the guest's agent ([`Service::register`]), hands over each connection that it accepts
//! ([`Service::adopt`]), and from then on works on it in turns ([`Connection::work`]): within a turn it reads what has come in, changes its
//! state, which lies in the slice, and writes. Between turns the slice is a consistent cut that the host may copy at any moment. What
//! the client may see leaves the machine when a standby has the state behind it. After a failure the slice comes to the server
//! that runs on another machine, as an [`Upcall`], with its state and its connection.
//!
//! The connection's TCP state is the kernel's. What a capsule of it needs lies in the slice too ([`slot`]): numbers and options, input that the
//! program has not consumed, output that the client has not acknowledged.

mod bell;
pub mod channel;
mod connection;
mod devices;
mod error;
mod memory;
mod service;
mod session;
pub mod slot;
mod tcp_state;
mod wire;

pub use channel::{Channel, Message, SOCKET_PATH};
pub use connection::{Connection, Turn, wall_us};
pub use devices::{Device, find_device};
pub use error::ProcessError;
pub use memory::SliceMemory;
pub use service::{Service, Upcall};
pub use session::{Session, SliceState};
pub use slot::{SESSION_LAYER, SlotState, TCP_LAYER};
pub use tcp_state::{TcpState, tcp_flag};
pub use wire::{Flow as WireFlow, Wire};
