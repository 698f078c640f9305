//! Power off and reset: the ports of hardware-reduced ACPI (ACPI 6.5, section 4.8.3.7), and the keyboard controller's reset line.

pub mod config;
pub mod device;
