//! The node: owner of some groups, standby of others.

mod command;
mod config;
mod event;

pub use command::{Command, PlugSlice};
pub use config::NodeConfig;
pub use event::{Event, RefuseApply};
