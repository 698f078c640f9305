//! The orchestrator: who is in the cell, who is dead, who owns what. It keeps nothing but the store's records, so any
//! new orchestrator goes on from them.

mod change;
mod command;
mod config;
mod detection;
mod draft;
mod event;
mod leases;
mod machine;
mod membership;
mod moves;
mod orphans;
mod placement;
mod quarantine;

#[cfg(test)]
mod tests;

pub use command::{Note, OrchestratorCommand, Receiver};
pub use config::OrchestratorConfig;
pub use event::{LinkId, OrchestratorEvent, Peer, TxnFailure};
pub use machine::Orchestrator;
