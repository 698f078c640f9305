//! Guest memory as the host holds it: RAM, control pages, arena. Volatile and atomic access only.

pub mod arena;
pub mod control_pages;
pub mod error;
pub mod ram;
pub mod shared_mapping;
pub mod slot_memory;
pub mod slot_table;
mod volatile_copy;

pub use arena::Arena;
pub use control_pages::ControlPages;
pub use error::MemoryError;
pub use ram::Ram;
pub use slot_memory::SlotMemory;
pub use slot_table::SlotTable;
