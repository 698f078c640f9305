//! Models of the protocol, explored state by state.
//!
//! [`cell`] drives the production machines: nodes' engines, orchestrator, edge and store, in every order of their events
//! within bounds.
#![forbid(unsafe_code)]

pub mod cell;
pub mod explore;
mod part;
pub mod promises;
pub mod report;
pub mod suite;
