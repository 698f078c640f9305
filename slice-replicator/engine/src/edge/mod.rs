//! The edge: which node a group's flows go to (T8).

mod command;
mod config;
mod event;
mod machine;

pub use command::{EdgeCommand, GroupSteering};
pub use config::EdgeConfig;
pub use event::EdgeEvent;
pub use machine::EdgeMachine;
