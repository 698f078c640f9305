//! The orchestrator's process.

mod beat_socket;
mod config;
mod end_point;
mod exported;
mod failovers;
mod figures;
mod links;
mod milestones;
mod node_link;
mod operators;
mod process;
mod status;
mod store_thread;
mod wishes;

pub use config::{DetectionTiming, OrchestratorProcessConfig};
pub use process::{OrchestratorProcess, run_orchestrator};
