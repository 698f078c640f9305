//! The node: owner of some groups, standby of others.

mod activation;
mod command;
mod commit;
mod config;
mod engine;
mod event;
mod image;
mod leases;
mod moves;
mod owned_group;
mod owned_slice;
mod ownership;
mod protection;
mod quarantine;
mod questions;
mod rejoin;
mod slice_table;
mod standby;
mod track;
mod view;
mod waiting;

#[cfg(test)]
mod tests;

pub use command::{Command, PlugSlice};
pub use config::NodeConfig;
pub use engine::{NodeEngine, SliceTally};
pub use event::{Event, RefuseApply};
pub use leases::LeaseUse;
