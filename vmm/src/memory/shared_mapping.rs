//! A memfd and its mapping in this process.

use super::error::MemoryError;
use super::volatile_copy::{copy_in, copy_out};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};
use vmm_sys_util::fallocate::{FallocateMode, fallocate};

/// Memory shared with the guest: a sealed-size memfd mapped once, whole, for as long as this value lives.
///
/// All access is checked against the size and is volatile or atomic. Pages that nobody touched cost nothing.
#[derive(Debug)]
pub struct SharedMapping {
    what: &'static str,
    region: MmapRegion<()>,
}

impl SharedMapping {
    /// Creates `bytes` (a multiple of the page size) of zeroed memory; `what` names it in errors and in `/proc`.
    pub fn new(what: &'static str, bytes: u64) -> Result<Self, MemoryError> {
        let file = memfd(what, bytes).map_err(|source| MemoryError::Create { what, bytes, source })?;
        let size = usize::try_from(bytes).map_err(|e| MemoryError::Map { what, bytes, reason: e.to_string() })?;
        let region = MmapRegion::from_file(FileOffset::new(file, 0), size).map_err(|e| MemoryError::Map {
            what,
            bytes,
            reason: e.to_string(),
        })?;
        Ok(Self { what, region })
    }

    /// Size, bytes.
    pub fn len(&self) -> usize {
        self.region.size()
    }

    /// Whether it has no bytes at all (it never has none).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Host address of the first byte, for `KVM_SET_USER_MEMORY_REGION`.
    pub fn host_address(&self) -> u64 {
        self.region.as_ptr() as u64
    }

    /// The mapping itself, for the crates that build guest memory of it.
    pub(super) fn into_region(self) -> MmapRegion<()> {
        self.region
    }

    /// The 64-bit atomic at an offset; `None` outside or unaligned.
    pub fn atomic_u64(&self, offset: u64) -> Option<&AtomicU64> {
        self.region.get_atomic_ref(usize::try_from(offset).ok()?).ok()
    }

    /// The 32-bit atomic at an offset; `None` outside or unaligned.
    pub fn atomic_u32(&self, offset: u64) -> Option<&AtomicU32> {
        self.region.get_atomic_ref(usize::try_from(offset).ok()?).ok()
    }

    /// Volatile copy out; `false` (and `into` untouched) if the range is not inside.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let Some(at) = self.range(offset, into.len()) else { return false };
        // SAFETY: the range lies in the mapping, which lives as long as `self`; only atomics are ever borrowed from it.
        unsafe { copy_out(self.region.as_ptr().add(at), into) };
        true
    }

    /// Volatile copy in; `false` if the range is not inside.
    pub fn write(&self, offset: u64, from: &[u8]) -> bool {
        let Some(at) = self.range(offset, from.len()) else { return false };
        // SAFETY: as in `read`.
        unsafe { copy_in(self.region.as_ptr().add(at), from) };
        true
    }

    /// Makes the host pages of a range present and writable (`MADV_POPULATE_WRITE`), best effort.
    pub fn prefault(&self, offset: u64, len: usize) {
        const PAGE: usize = 4096;
        let Some(at) = self.range(offset, len) else { return };
        let start = at - at % PAGE;
        let end = (at + len).next_multiple_of(PAGE).min(self.len());
        // SAFETY: the pages lie in the mapping; populating them changes no content.
        unsafe {
            libc::madvise(self.region.as_ptr().add(start).cast(), end - start, libc::MADV_POPULATE_WRITE);
        }
    }

    /// Gives the pages of a page-aligned range back: they read as zero afterwards, here and in the guest.
    pub fn clear(&self, offset: u64, len: u64) -> Result<(), MemoryError> {
        let failed = |source| MemoryError::Clear { what: self.what, source };
        let file = self.region.file_offset().ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
        fallocate(file.file(), FallocateMode::PunchHole, true, offset, len)
            .map_err(|e| failed(io::Error::from_raw_os_error(e.errno())))
    }

    fn range(&self, offset: u64, len: usize) -> Option<usize> {
        let at = usize::try_from(offset).ok()?;
        (at.checked_add(len)? <= self.len()).then_some(at)
    }
}

/// A memfd whose size can no longer change: a shrunken file would turn every access into SIGBUS.
fn memfd(what: &str, bytes: u64) -> io::Result<File> {
    let name = std::ffi::CString::new(format!("escape-{what}"))?;
    // SAFETY: the name is a C string; the call has no other precondition.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes)?;
    // SAFETY: an fcntl with an integer argument on a descriptor we own.
    let sealed = unsafe {
        libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL)
    };
    if sealed < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn accesses_outside_are_refused() {
        let m = SharedMapping::new("test", 8192).unwrap();
        let mut b = [7; 16];
        assert!(!m.read(8192 - 15, &mut b));
        assert!(!m.read(u64::MAX, &mut b));
        assert_eq!(b, [7; 16], "untouched");
        assert!(!m.write(8192, &[1]));
        assert!(m.write(8192, &[]), "nothing at the very end is nothing");
        assert!(m.atomic_u64(8192 - 8).is_some());
        assert!(m.atomic_u64(8192 - 4).is_none());
        assert!(m.atomic_u32(2).is_none(), "unaligned");
        m.prefault(0, usize::MAX);
        m.prefault(4095, 2);
    }

    #[test]
    fn cleared_pages_read_as_zero() {
        let m = SharedMapping::new("test", 8192).unwrap();
        assert!(m.write(4090, &[9; 12]));
        m.clear(4096, 4096).unwrap();
        let mut b = [1; 12];
        assert!(m.read(4090, &mut b));
        assert_eq!(b, [9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0]);
    }
}
