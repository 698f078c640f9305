//! I/O ports. Each access leaves for the VMM's process (28 µs on a nested host): boot, log and crash only.

use core::arch::asm;

/// Serial console, data register.
pub const SERIAL: u16 = 0x3f8;
/// A 4-byte write ends the guest with a crash code ([`crate::runtime::crash`]).
pub const CRASH: u16 = 0x500;

/// Writes a byte to a port.
pub fn write8(port: u16, value: u8) {
    // SAFETY: the VMM's ports do not touch guest memory; ports without a device ignore writes.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, nomem, preserves_flags)) }
}

/// Writes four bytes to a port.
pub fn write32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, nomem, preserves_flags)) }
}
