//! A whole cell in one thread, on the production machines: one seed drives nodes, network, store, clients and faults.
//!
//! After every step the judge (`oracle`) checks the invariants of the protocol; at the end of a run all faults are
//! healed and the cell must be whole again. The same seed is the same run, to the last message.
#![forbid(unsafe_code)]

mod batch;
mod clients;
mod clocks;
mod commands;
mod control;
mod counts;
mod fault_kind;
mod faults;
mod guest;
mod hunt;
mod moves;
mod network;
mod node_process;
mod oracle;
mod outcome;
mod rng;
mod service;
mod tally;
mod vmm;
mod wholeness;
mod wiring;
mod world;

pub use batch::{Batch, BatchResult, Found};
pub use counts::Counts;
pub use fault_kind::FaultKind;
pub use hunt::Hunt;
pub use oracle::Violation;
pub use outcome::{Outcome, run};
pub use tally::Tally;
pub use world::Plan;

use network::Endpoint;
use world::{Message, World};

impl World {
    /// A message reaches a process.
    pub fn receive(&mut self, to: Endpoint, from: Endpoint, link: usize, message: Message) {
        match to {
            Endpoint::Node(n) => self.node_receives(n, from, link, message),
            Endpoint::Orchestrator => self.orchestrator_receives(from, link, message),
            Endpoint::Edge => self.edge_receives(link, message),
        }
    }

    /// A process has lost a connection.
    pub fn lose(&mut self, process: Endpoint, from: Endpoint, link: usize) {
        match process {
            Endpoint::Node(n) => self.node_loses(n, link),
            Endpoint::Orchestrator => self.orchestrator_loses(from, link),
            Endpoint::Edge => self.edge_loses(link),
        }
    }
}
