//! Decisions without I/O.
//!
//! Each machine takes events and the time and returns commands; it owns no clock, socket, file or randomness. The very
//! code that runs in `escape node`, `escape orchestrator` and `escape edge` is what the simulator drives.
#![forbid(unsafe_code)]

pub mod edge;
mod mutant;
pub mod node;
pub mod orchestrator;
pub mod store;
mod suspicion;

pub use mutant::{Mutant, UnknownMutant};
pub use suspicion::{Suspicion, SuspicionConfig};

/// Time in microseconds of the local monotonic clock. Differences matter, absolute values do not.
pub type Micros = u64;
