//! A cell whose hosts are machines of their own, emulated in software, each with a node and a Debian guest in it. Orchestrator, edge and
//! clients are programs of this machine, in network namespaces. Where the machine has VMX or SVM, hosts are such namespaces too, and the
//! wires of the picture are veth pairs.
//!
//! ```text
//!  clients, c0 ── up0 [ edge, orchestrator ] node1 ── data NIC   ┐ br1  ── escape1   [ emulated host 1: escape node, Debian guest ]
//!                                        node1m ─ mirror NIC ┘ br1m ── escape1m
//!                                        node2 …                                 [ emulated host 2 ]
//!               every host ── ctl NIC ── br0 [ edge, orchestrator ]
//! ```

mod beside;
mod client_wire;
mod clients;
mod control;
mod firewall;
mod host;
mod known_servers;
mod namespace;
mod network;
mod process;
mod process_death;
mod random;
mod scenario;
mod server_image;
mod small_faults;
mod soak;

pub use scenario::{CellParts, fail_over, fail_over_for, in_directory, serve_known};
pub use server_image::Servers;
