//! GDT and identity map with which the kernel is entered; it makes its own at once.

use super::error::LinuxError;
use super::write as write_bytes;
use vm_memory::GuestMemoryMmap;

/// Where the descriptors lie.
pub const GDT_AT: u64 = 0x500;
/// Null, unused, 64-bit code (selector 0x10), data (selector 0x18): those of the boot protocol.
pub const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
/// The root of the page tables.
pub const PAGE_TABLES_AT: u64 = 0x9000;
/// The first 4 GiB, by pages of 2 MiB.
const GIGABYTES: u64 = 4;
const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 0x80;
const TABLE: u64 = 0x1000;

/// Writes both.
pub fn write(memory: &GuestMemoryMmap) -> Result<(), LinuxError> {
    write_words(memory, "the GDT", GDT_AT, GDT)?;
    let (upper, first) = (PAGE_TABLES_AT + TABLE, PAGE_TABLES_AT + 2 * TABLE);
    write_words(memory, "page tables", PAGE_TABLES_AT, [upper | PRESENT_WRITABLE])?;
    for gigabyte in 0..GIGABYTES {
        let directory = first + gigabyte * TABLE;
        write_words(memory, "page tables", upper + 8 * gigabyte, [directory | PRESENT_WRITABLE])?;
        let pages = (0..512u64).map(|page| gigabyte << 30 | page << 21 | LARGE | PRESENT_WRITABLE);
        write_words(memory, "page tables", directory, pages)?;
    }
    Ok(())
}

fn write_words(
    memory: &GuestMemoryMmap,
    what: &'static str,
    at: u64,
    words: impl IntoIterator<Item = u64>,
) -> Result<(), LinuxError> {
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    write_bytes(memory, what, at, &bytes)
}
