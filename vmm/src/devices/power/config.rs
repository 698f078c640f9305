//! Where the ports are. The ACPI tables say so to the guest.

/// Sleep control register, 8 bits.
pub const SLEEP_CONTROL: u16 = 0x600;
/// Sleep status register, 8 bits.
pub const SLEEP_STATUS: u16 = 0x601;
/// Reset register, 8 bits.
pub const RESET: u16 = 0x602;
/// What must be written there.
pub const RESET_VALUE: u8 = 1;
/// Sleep type of "soft off" (S5), as `_S5_` says.
pub const S5: u8 = 5;
