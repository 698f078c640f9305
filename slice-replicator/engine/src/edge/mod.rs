//! The edge: which node a group's flows go to (T8).

mod command;
mod config;
mod event;

pub use command::{EdgeCommand, GroupSteering};
pub use config::EdgeConfig;
pub use event::EdgeEvent;
