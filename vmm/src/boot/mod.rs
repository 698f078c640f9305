//! From an image file to a vCPU that can run: loading, page tables, registers, boot parameters.

pub mod elf;
pub mod error;
pub mod linux;
pub mod page_tables;
pub mod params;
pub mod registers;

pub use error::BootError;
pub use params::BootParamsSeed;
