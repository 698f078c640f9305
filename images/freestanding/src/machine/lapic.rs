//! The local APIC: enable, and a one-shot timer.
//!
//! xAPIC registers through the alias page. KVM serves them in the kernel (3 µs an access on a nested host): cheaper than a
//! call into ring 0 for the deadline register, so the timer is the counting one.

use escape_abi::layout::{LAPIC_ALIAS, vector};

const SPURIOUS: u64 = 0xf0;
const LVT_TIMER: u64 = 0x320;
const INITIAL_COUNT: u64 = 0x380;
const DIVIDE: u64 = 0x3e0;
/// Divide the bus clock by 128.
const DIVIDE_BY_128: u32 = 0xa;
/// Nanoseconds of a timer tick: KVM's APIC bus runs at 1 GHz (`APIC_BUS_FREQUENCY`), divided by 128.
pub const TICK_NS: u64 = 128;

fn write(register: u64, value: u32) {
    // SAFETY: the VMM maps the APIC's page at the alias; its registers do not touch guest memory.
    unsafe { ((LAPIC_ALIAS + register) as *mut u32).write_volatile(value) }
}

/// Enables the APIC (without it no interrupt arrives and a halt never ends) and prepares the timer.
pub(super) fn enable() {
    write(SPURIOUS, 0x100 | super::interrupts::SPURIOUS_VECTOR as u32);
    write(DIVIDE, DIVIDE_BY_128);
    write(LVT_TIMER, u32::from(vector::TIMER));
}

/// Starts the timer: one interrupt after `ticks` of [`TICK_NS`]; replaces an earlier start.
pub fn start_timer(ticks: u32) {
    write(INITIAL_COUNT, ticks);
}
