//! The edge's process.

mod config;
mod counters;
mod deposed_watch;
mod exported;
mod failed_groups;
mod flow_backlog;
mod interfaces;
mod process;
mod steering;
mod upstream;

pub use config::{EdgeProcessConfig, NodePorts};
pub use process::{EdgeProcess, run_edge};
