//! Models of the protocol, explored state by state.
//!
//! [`cell`] drives the production machines: nodes' engines, orchestrator, edge and store, in every order of their events
//! within bounds. [`moves`] is abstract: the design of T9, which no production code makes yet.
#![forbid(unsafe_code)]

pub mod cell;
pub mod explore;
pub mod moves;
mod part;
pub mod promises;
pub mod report;
pub mod suite;
