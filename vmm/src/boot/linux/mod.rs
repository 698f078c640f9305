//! Booting a stock Linux kernel: 64-bit entry of the x86 boot protocol (Documentation/arch/x86/boot.rst), with ACPI instead of a
//! firmware.
//!
//! Low memory: GDT at 0x500, `boot_params` at 0x7000, page tables from 0x9000, command line at 0x20000, ACPI tables at 0xe0000,
//! kernel at 1 MiB, initial file system at the end of RAM.

mod acpi;
mod error;
mod kernel;
mod low_memory;
mod registers;
mod zero_page;

pub use error::LinuxError;
pub use kernel::{KernelFacts, KernelKind};

use crate::devices::virtio::blk::DiskConfig;
use crate::devices::virtio::vsock::VsockConfig;
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// A kernel and what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinuxGuest {
    /// A bzImage or an ELF kernel.
    pub kernel: Vec<u8>,
    /// The initial file system: a cpio archive, packed or not. Empty: none.
    pub initrd: Vec<u8>,
    /// The kernel's command line.
    pub cmdline: String,
    /// The network interface's address.
    pub mac: [u8; 6],
    /// Its processors, from 1 to [`VCPUS_MAX`].
    pub vcpus: u8,
    /// Its disks, in order: `vda`, `vdb` and so on.
    pub disks: Vec<DiskConfig>,
    /// Slots of the arena that the guest sees: a multiple of 64; 0: it sees none, and no control pages.
    pub slots: u32,
    /// Streams between host and guest; `None`: no such device.
    pub vsock: Option<VsockConfig>,
}

/// Processors of one guest.
pub const VCPUS_MAX: u8 = 16;

/// Pages, for the initial file system's place.
const PAGE: u64 = 4096;

/// The machine that a kernel is loaded into.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// RAM.
    pub memory: &'a GuestMemoryMmap,
    /// Its size.
    pub ram_bytes: u64,
    /// Size of the arena that the kernel is told of.
    pub arena_bytes: u64,
    /// Size of the control pages that the kernel is told of.
    pub control_bytes: u64,
    /// Numbers of the virtio-mmio devices.
    pub devices: &'a [u64],
}

/// Writes everything that the kernel needs into RAM and sets the boot vCPU's registers.
///
/// # Errors
/// [`LinuxError`] says what is wrong with the kernel, or what it lacks.
pub fn load(guest: &LinuxGuest, place: &Place<'_>, vcpu: &VcpuFd) -> Result<(), LinuxError> {
    let Place { memory, ram_bytes, devices, .. } = *place;
    let loaded = kernel::load(&guest.kernel, memory)?;
    let initrd_bytes = guest.initrd.len() as u64;
    let initrd_at = ram_bytes.saturating_sub(initrd_bytes) / PAGE * PAGE;
    if loaded.end > initrd_at {
        let wanted_mib = (loaded.end + initrd_bytes).div_ceil(2 << 20) * 2 + 2;
        return Err(LinuxError::NoRoom { bytes: ram_bytes, kernel_end: loaded.end, initrd_bytes, wanted_mib });
    }
    write(memory, "the initial file system", initrd_at, &guest.initrd)?;
    let cmdline = zero_page::write_cmdline(&guest.cmdline, &loaded, memory)?;
    zero_page::write(&loaded, cmdline, (initrd_at, initrd_bytes), place)?;
    acpi::write(memory, devices, guest.vcpus)?;
    low_memory::write(memory)?;
    registers::enter(vcpu, loaded.entry)
}

fn write(memory: &GuestMemoryMmap, what: &'static str, address: u64, bytes: &[u8]) -> Result<(), LinuxError> {
    memory.write_slice(bytes, GuestAddress(address)).map_err(|source| LinuxError::Write { what, address, source })
}
