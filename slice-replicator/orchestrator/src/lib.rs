//! The two processes of a cell that are not nodes: the orchestrator, which decides, and the edge, which steers.
//!
//! Both are one loop on one thread around a machine of escape-engine, which makes all decisions. What could be slow
//! (the store's medium, the reader of events, standard input) has a thread of its own and a bounded queue to it.

mod edge;
mod error;
mod event_log;
mod events_place;
mod link_table;
mod operator_input;
mod orchestrator;
mod os;
mod stop_signal;

pub use edge::{EdgeProcess, EdgeProcessConfig, NodePorts, run_edge};
pub use error::ProcessError;
pub use events_place::OutputPlace;
pub use orchestrator::{DetectionTiming, OrchestratorProcess, OrchestratorProcessConfig, run_orchestrator};
pub use os::now_us;
