//! The fabric proper: which flow belongs to which group, which group to which node, and who may answer.
//!
//! Two steps, so that a failover changes a handful of entries however many flows there are:
//! ```text
//! pair     {client address . client port . service port : mark}   flow → group, learned from SYNs or told by owners
//! bucket   {0..4095 : mark}                                       placement of new flows
//! owner    {mark : interface}      mirror {mark : interface}      group → node's data port, standby's mirror port
//! may_send {mark . interface}                                     who may answer for a group
//! ```
//! A flow's mark is its group's number + 1; mark 0 is nobody's.

mod config;
mod counters;
mod elements;
mod error;
mod flow;
mod installed;
mod placement;
mod probe;
mod ruleset;

pub use config::{Contents, FabricConfig, Port};
pub use counters::FabricCounters;
pub use error::FabricError;
pub use flow::{BUCKETS, Flow, PlaceBy, bucket_of};
pub use installed::Fabric;
pub use placement::GroupPlace;
pub use probe::probe;

/// Greatest number of flows known at once. Full: SYNs of further flows are dropped and counted (`flows_full`).
pub const FLOWS_MAX: u32 = 65_536;

/// Greatest number of groups with an owner or a mirror at once.
pub const GROUPS_MAX: u32 = 4_096;

/// Greatest number of node ports.
pub const PORTS_MAX: usize = 64;
