//! Guest memory as the host holds it.

pub mod slot_memory;

pub use slot_memory::SlotMemory;
