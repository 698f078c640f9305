//! Configuration mechanism 1 (PCI Local Bus Specification 3.0, section 3.2.2.3.2): two ports of 32 bits.

/// Which register is meant.
pub const ADDRESS: u16 = 0xcf8;
/// What it holds; four ports.
pub const DATA: u16 = 0xcfc;
/// The address register's "enable".
pub const ENABLED: u32 = 1 << 31;
/// Intel's virtual host bridge.
pub const ID: u32 = 0x0d57_8086;
/// "Bridge", "host bridge", revision 0.
pub const CLASS: u32 = 0x0600_0000;
/// Registers, by their offsets.
pub const ID_REGISTER: u32 = 0x00;
/// See [`ID_REGISTER`].
pub const CLASS_REGISTER: u32 = 0x08;
/// Registers that the header of a device without anything has; they read as zero.
pub const HEADER_BYTES: u32 = 0x40;
