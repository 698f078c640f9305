//! Minimal rust-vmm VMM.

pub mod commit;
pub mod memory;
