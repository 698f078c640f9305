//! `boot_params`, the "zero page": what a boot loader tells the kernel.

use super::Place;
use super::acpi::{TABLES_AT, TABLES_BYTES};
use super::error::LinuxError;
use super::kernel::Loaded;
use super::write as write_bytes;
use escape_abi::layout::{ARENA_BASE, CONTROL_BASE};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{ByteValued, GuestMemoryMmap};

/// Where it lies; the kernel gets the address in RSI.
pub const ZERO_PAGE: u64 = 0x7000;
const CMDLINE_AT: u64 = 0x2_0000;
/// Room for the command line, with its final zero.
const CMDLINE_ROOM: usize = 0x1_0000;
/// End of conventional memory.
const LOW_END: u64 = 0x9_fc00;
const HIGH_BEGIN: u64 = 0x10_0000;
/// Kinds of memory in the map (ACPI 6.5, section 15).
const E820_RAM: u32 = 1;
const E820_ACPI: u32 = 3;
/// Linux's own: memory of some purpose of its own, which is not the kernel's to use (arch/x86/include/asm/e820/types.h). It
/// becomes devices, `/dev/dax0.0` and so on.
const E820_SOFT_RESERVED: u32 = 0xefff_ffff;
/// "Undefined boot loader", and "the kernel is loaded high".
const LOADER: u8 = 0xff;
const LOADED_HIGH: u8 = 1;

/// Writes the command line; returns its address and size with the final zero.
pub fn write_cmdline(cmdline: &str, loaded: &Loaded, memory: &GuestMemoryMmap) -> Result<(u64, u32), LinuxError> {
    let max = loaded.cmdline_max.min(CMDLINE_ROOM - 1);
    if cmdline.len() > max || cmdline.contains('\0') {
        return Err(LinuxError::CommandLine { len: cmdline.len(), max });
    }
    let mut bytes = cmdline.as_bytes().to_vec();
    bytes.push(0);
    write_bytes(memory, "the command line", CMDLINE_AT, &bytes)?;
    Ok((CMDLINE_AT, u32::try_from(bytes.len()).unwrap_or(u32::MAX)))
}

/// Writes the page. `initrd`: address and size; all addresses lie below 4 GiB.
pub fn write(
    loaded: &Loaded,
    (cmdline_at, cmdline_bytes): (u64, u32),
    (initrd_at, initrd_bytes): (u64, u64),
    place: &Place<'_>,
) -> Result<(), LinuxError> {
    let mut params = boot_params { hdr: loaded.header, ..Default::default() };
    let low = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
    params.hdr.type_of_loader = LOADER;
    params.hdr.loadflags |= LOADED_HIGH;
    params.hdr.cmd_line_ptr = low(cmdline_at);
    params.hdr.cmdline_size = cmdline_bytes;
    if initrd_bytes > 0 {
        (params.hdr.ramdisk_image, params.hdr.ramdisk_size) = (low(initrd_at), low(initrd_bytes));
    }
    params.acpi_rsdp_addr = TABLES_AT;
    let map = [
        (0, LOW_END, E820_RAM),
        (TABLES_AT, TABLES_BYTES, E820_ACPI),
        (HIGH_BEGIN, place.ram_bytes.saturating_sub(HIGH_BEGIN), E820_RAM),
        (CONTROL_BASE, place.control_bytes, E820_SOFT_RESERVED),
        (ARENA_BASE, place.arena_bytes, E820_SOFT_RESERVED),
    ];
    let map = map.into_iter().filter(|(_, size, _)| *size > 0);
    let mut entries = 0;
    for (entry, (addr, size, kind)) in params.e820_table.iter_mut().zip(map) {
        *entry = boot_e820_entry { addr, size, r#type: kind };
        entries += 1;
    }
    params.e820_entries = entries;
    write_bytes(place.memory, "boot_params", ZERO_PAGE, params.as_slice())
}
