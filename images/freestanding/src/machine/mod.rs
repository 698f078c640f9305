//! The bare machine: a ring-0 stub of a few instructions, and what ring 3 needs to live on it.
//!
//! Ring 3 always runs with interrupts on (on some KVMs it cannot mask them); interrupt stubs only count, and the decision
//! to halt is made in ring 0 ([`ring0::halt_unless_interrupted_since`]), so that no wake-up is lost.

mod descriptors;
pub mod interrupts;
pub mod lapic;
pub mod port;
pub mod protect;
pub mod ring0;
pub mod stack;
mod start;
pub mod trap;
