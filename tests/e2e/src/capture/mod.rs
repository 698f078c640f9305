//! Captures of a client's interface, and what they prove about a service's TCP connections.

mod frame;
mod judge;
mod pcap;
mod server_flow;

pub use frame::Segment;
pub use judge::{Judge, Seen};
pub use pcap::Pcap;
pub use server_flow::Contradiction;
