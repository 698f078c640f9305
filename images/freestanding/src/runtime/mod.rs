//! What Rust and the service need of a runtime: heap, memory functions, clock, log, and the end.

pub mod clock;
pub mod crash;
#[cfg(not(test))]
pub mod fault;
#[cfg(not(test))]
pub mod heap;
#[cfg(not(test))]
mod log_writer;
#[cfg(any(test, feature = "image"))]
pub mod memory_functions;

#[cfg(not(test))]
pub use log_writer::write_line;

/// Writes a line to the serial console. At most a few lines a second are written (a byte costs an exit); what was left
/// out is counted and said with the next line.
#[cfg(not(test))]
#[macro_export]
macro_rules! log_line {
    ($($argument:tt)*) => { $crate::runtime::write_line(format_args!($($argument)*)) };
}
#[cfg(not(test))]
pub use crate::log_line as log;
