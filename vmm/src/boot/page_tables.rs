//! The guest's first page tables: linear = physical, in 2 MiB pages (AMD APM volume 2, section 5.3).
//!
//! All pages are user pages because the guest lives in ring 3. Only what exists is mapped, so that a stray pointer
//! faults in the guest; only RAM is executable, slot memory above all is not.

use super::error::BootError;
use escape_abi::ControlLayout;
use escape_abi::layout::{ARENA_BASE, CONTROL_BASE, IMAGE_BASE, LAPIC_ALIAS, MMIO_BASE, PAGE_TABLES, SLOT_SIZE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const TABLE_BYTES: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
const PRESENT_WRITABLE_USER: u64 = 7;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Where the processor's local APIC answers.
const LAPIC: u64 = 0xfee0_0000;

/// Builds the tables from [`PAGE_TABLES`] on; CR3 is [`PAGE_TABLES`].
pub fn build(memory: &GuestMemoryMmap, ram_bytes: u64, n_slots: u32) -> Result<(), BootError> {
    let mut tables = Tables { memory, next: PAGE_TABLES + 2 * TABLE_BYTES };
    // One top-level entry (512 GiB) covers everything, the arena included.
    tables.put(PAGE_TABLES, (PAGE_TABLES + TABLE_BYTES) | PRESENT_WRITABLE_USER)?;
    tables.map(0, ram_bytes, 0, 0)?;
    tables.map(LAPIC_ALIAS, LARGE_PAGE, LAPIC, NO_EXECUTE)?;
    tables.map(CONTROL_BASE, ControlLayout::new(n_slots).bytes, CONTROL_BASE, NO_EXECUTE)?;
    tables.map(MMIO_BASE, LARGE_PAGE, MMIO_BASE, NO_EXECUTE)?;
    tables.map(ARENA_BASE, u64::from(n_slots) * SLOT_SIZE as u64, ARENA_BASE, NO_EXECUTE)
}

struct Tables<'a> {
    memory: &'a GuestMemoryMmap,
    /// Next free page for a table.
    next: u64,
}

impl Tables<'_> {
    /// Maps `bytes` (rounded up to 2 MiB) at `linear` to `physical`.
    fn map(&mut self, linear: u64, bytes: u64, physical: u64, flags: u64) -> Result<(), BootError> {
        let mut done = 0;
        while done < bytes {
            let at = linear + done;
            let directory = self.directory(at)?;
            let entry = directory + at % GIB / LARGE_PAGE * 8;
            self.put(entry, (physical + done) | PRESENT_WRITABLE_USER | LARGE | flags)?;
            done += LARGE_PAGE;
        }
        Ok(())
    }

    /// The page directory of the GiB around `linear`, made if it is not there.
    fn directory(&mut self, linear: u64) -> Result<u64, BootError> {
        let entry = PAGE_TABLES + TABLE_BYTES + linear / GIB * 8;
        let present: u64 = self.memory.read_obj(GuestAddress(entry)).map_err(|e| write_error(entry, e))?;
        if present != 0 {
            return Ok(present & !(TABLE_BYTES - 1));
        }
        let table = self.next;
        debug_assert!(table < IMAGE_BASE, "tables end below the image for every legal arena");
        self.next += TABLE_BYTES;
        self.put(entry, table | PRESENT_WRITABLE_USER)?;
        Ok(table)
    }

    fn put(&self, address: u64, value: u64) -> Result<(), BootError> {
        self.memory.write_obj(value, GuestAddress(address)).map_err(|e| write_error(address, e))
    }
}

fn write_error(address: u64, source: vm_memory::GuestMemoryError) -> BootError {
    BootError::Write { what: "page tables", address, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use escape_abi::layout::{SLOTS_MAX, slot_address};

    /// Walks the tables as the processor does: physical address and whether code may run there.
    fn translate(memory: &GuestMemoryMmap, linear: u64) -> Option<(u64, bool)> {
        let mut table = PAGE_TABLES;
        for shift in [39, 30, 21] {
            let entry: u64 = memory.read_obj(GuestAddress(table + (linear >> shift & 511) * 8)).unwrap();
            if entry & 7 != 7 {
                return None;
            }
            table = entry & 0x000f_ffff_ffff_f000;
            if shift == 21 {
                assert_ne!(entry & LARGE, 0);
                return Some((table + linear % LARGE_PAGE, entry & NO_EXECUTE == 0));
            }
        }
        None
    }

    #[test]
    fn what_exists_is_mapped_and_nothing_else() {
        let ram_bytes = 64 << 20;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), ram_bytes as usize)]).unwrap();
        build(&memory, ram_bytes, SLOTS_MAX).unwrap();
        let control = ControlLayout::new(SLOTS_MAX).bytes;
        let last_slot = slot_address(SLOTS_MAX - 1) + SLOT_SIZE as u64 - 1;
        for (linear, want) in [
            (0x2000, Some((0x2000, true))),
            (ram_bytes - 1, Some((ram_bytes - 1, true))),
            (ram_bytes, None),
            (LAPIC_ALIAS + 0xb0, Some((LAPIC + 0xb0, false))),
            (CONTROL_BASE + control - 1, Some((CONTROL_BASE + control - 1, false))),
            (CONTROL_BASE + control, None),
            (escape_abi::layout::DOORBELL, Some((escape_abi::layout::DOORBELL, false))),
            (ARENA_BASE, Some((ARENA_BASE, false))),
            (last_slot, Some((last_slot, false))),
            (last_slot + 1, None),
            (ARENA_BASE - 1, None),
        ] {
            assert_eq!(translate(&memory, linear), want, "{linear:#x}");
        }
    }
}
