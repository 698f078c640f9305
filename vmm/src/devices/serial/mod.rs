//! The first serial port (16550 at 0x3f8): the guest's console.

pub mod console;
pub mod device;

pub use console::Console;
pub use device::SerialPort;
