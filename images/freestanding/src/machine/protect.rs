//! Page protection. The VMM maps everything readable and writable for ring 3 in large pages; here the guest takes from
//! itself what it never needs, so that a stray pointer or a stack overflow is an exception and not a corrupted neighbour.

use super::ring0::forget_translation;
use crate::memory_map::MemoryMap;
use crate::runtime::log;
use core::cell::UnsafeCell;
use escape_abi::layout::{IMAGE_BASE, PAGE_TABLES};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const LARGE: u64 = 0x80;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;

#[repr(C, align(4096))]
struct SmallPages(UnsafeCell<[u64; 512]>);
// SAFETY: one vCPU; written once at boot before the page directory points to it.
unsafe impl Sync for SmallPages {}
/// Replaces the first large page: parameters, page tables, image.
static FIRST: SmallPages = SmallPages(UnsafeCell::new([0; 512]));

unsafe extern "C" {
    /// End of what the image executes and reads, from the linker script.
    static __text_end: u8;
}

/// The large-page entry of an address below 512 GiB, if the VMM's tables have one.
fn large_entry(address: u64) -> Option<*mut u64> {
    let mut table = PAGE_TABLES;
    for shift in [39, 30] {
        let entry = (table + 8 * (address >> shift & 511)) as *const u64;
        // SAFETY: page-table pages of the VMM lie in RAM, and linear = physical.
        let entry = unsafe { entry.read_volatile() };
        if entry & PRESENT == 0 || entry & LARGE != 0 {
            return None;
        }
        table = entry & ADDRESS;
    }
    let entry = (table + 8 * (address >> 21 & 511)) as *mut u64;
    // SAFETY: as above.
    let is_large = unsafe { entry.read_volatile() } & (PRESENT | LARGE) == PRESENT | LARGE;
    is_large.then_some(entry)
}

/// Changes the large-page entry of `address`.
fn change(address: u64, change: impl FnOnce(u64) -> u64) {
    let Some(entry) = large_entry(address) else {
        log!("boot: no large page at {address:#x}: left unprotected");
        return;
    };
    // SAFETY: an entry of the VMM's page tables; `protect` only removes rights that nothing uses.
    unsafe { entry.write_volatile(change(entry.read_volatile())) };
}

/// Unmaps page 0 and the guard below the main stack, write-protects the image's code, forbids execution elsewhere.
pub(super) fn protect(map: &MemoryMap) {
    let text_end = (&raw const __text_end) as u64;
    let entries = core::array::from_fn(|page| {
        let address = page as u64 * PAGE;
        match address {
            0 => 0,
            IMAGE_BASE.. if address < text_end => address | PRESENT | USER,
            _ => address | PRESENT | USER | WRITABLE | NO_EXECUTE,
        }
    });
    // SAFETY: nothing uses the table before the next line makes the directory point to it.
    unsafe { FIRST.0.get().write_volatile(entries) };
    change(0, |_| (&raw const FIRST) as u64 | PRESENT | USER | WRITABLE);
    forget_translation(0); // the large page's translation, all of it
    let first_data = text_end.next_multiple_of(LARGE_PAGE).max(LARGE_PAGE);
    for address in (first_data..map.stack_end).step_by(LARGE_PAGE as usize) {
        let guard = address == map.guard_start;
        change(address, |entry| if guard { 0 } else { entry | NO_EXECUTE });
        // A cached translation that still allows execution does no harm, and each call costs 9 µs where ring 0 is
        // interpreted: only the guard must be gone at once.
        if guard {
            forget_translation(address);
        }
    }
}
