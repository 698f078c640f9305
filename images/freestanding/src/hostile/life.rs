//! Attacks that end the guest, or should leave it alone.

use crate::guest::Guest;
use escape_abi::layout::{LEASE_SLOTS, slot_address};
use escape_freestanding::machine::port;
use escape_freestanding::runtime::crash;

/// What `crash` reports.
const CODE: u32 = 0x666;
/// Where the unleased slot is touched.
const OFFSET: u64 = 0x1230;

/// Reads a slot whose lease this guest does not have.
pub fn unleased_read(guest: &mut Guest) {
    let at = slot_address(guest.lease.0 + LEASE_SLOTS) + OFFSET;
    // SAFETY: mapped by the VMM's page tables, without memory behind it: the VMM ends the guest.
    let _ = unsafe { (at as *const u64).read_volatile() };
}

/// Writes to it.
pub fn unleased_write(guest: &mut Guest) {
    let at = slot_address(guest.lease.0 + LEASE_SLOTS) + OFFSET;
    // SAFETY: as above.
    unsafe { (at as *mut u64).write_volatile(7) };
}

/// Touches what lies behind the arena.
pub fn beyond_arena(guest: &mut Guest) {
    // The large page that the arena's last slot shares with nothing, and the next.
    let at = slot_address(guest.params.n_slots) + (1 << 30);
    // SAFETY: not mapped: an exception, after which nothing goes on.
    unsafe { (at as *mut u64).write_volatile(7) };
}

/// Jumps into the arena, where another guest's bytes may be.
pub fn execute_arena(guest: &mut Guest) {
    /// `ret`
    const RETURN: u8 = 0xc3;
    guest.bad.write_state(&[RETURN]);
    let at = slot_address(guest.bad.slot) as *const ();
    // SAFETY: the arena is not executable: an exception. Were it, the instruction there returns.
    unsafe { core::mem::transmute::<*const (), extern "C" fn()>(at)() }
}

/// Writes to ports where nothing is, and to the serial port's other registers.
pub fn ports(_: &mut Guest) {
    for number in (0u16..0x500).step_by(13).chain([0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff, 0xcf8, 0xffff]) {
        port::write8(number, 0xff);
        port::write32((number | 0x8000) & !3, 0xffff_ffff);
    }
}

/// Ends itself, as it will at each start.
pub fn crash(_: &mut Guest) {
    crash::end(CODE)
}
