//! The node: owner of some groups, standby of others.

mod command;
mod event;

pub use command::{Command, PlugSlice};
pub use event::{Event, RefuseApply};
