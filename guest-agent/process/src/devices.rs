//! Memory that the host shares with the guest, as the kernel's devices.

use crate::ProcessError;
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Where the kernel tells of memory of a purpose of its own (drivers/dax).
const FACTS: &str = "/sys/bus/dax/devices";

/// A device of the kernel's for a range of such memory.
#[derive(Debug)]
pub struct Device {
    file: File,
    bytes: usize,
}

/// Finds the device whose memory begins at a guest-physical address.
///
/// # Errors
/// There is none, or it cannot be opened.
pub fn find_device(at: u64) -> Result<Device, ProcessError> {
    let none = || ProcessError::NoDevice { at };
    for entry in std::fs::read_dir(FACTS).map_err(|_| none())?.flatten() {
        let facts = entry.path();
        if fact(&facts, "resource") == Some(at) {
            let bytes = fact(&facts, "size").and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(none)?;
            let file = OpenOptions::new().read(true).write(true).open(Path::new("/dev").join(entry.file_name()));
            return Ok(Device {
                file: file.map_err(ProcessError::call("opening the device of a cell's memory"))?,
                bytes,
            });
        }
    }
    Err(none())
}

/// A number as the kernel writes it: with 0x if it is of base 16.
fn fact(facts: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(facts.join(name)).ok()?;
    let text = text.trim();
    text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
}

impl Device {
    /// One that another process has opened.
    pub const fn of(file: File, bytes: usize) -> Self {
        Self { file, bytes }
    }

    /// Bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Maps all of it at this address, where nothing may be mapped, for the life of the process.
    pub fn map_at(&self, address: u64) -> Result<*mut u8, ProcessError> {
        let wanted = usize::try_from(address).unwrap_or(0) as *mut _;
        let flags = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
        // SAFETY: a new mapping at a place where this process has none, which the kernel checks; nothing else is touched.
        let got =
            unsafe { rustix::mm::mmap(wanted, self.bytes, ProtFlags::READ | ProtFlags::WRITE, flags, &self.file, 0) };
        got.map(<*mut _>::cast).map_err(ProcessError::call("mapping a cell's memory"))
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
