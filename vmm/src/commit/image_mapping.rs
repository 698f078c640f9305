//! One sparse anonymous mapping for the images of all slots.

use escape_abi::layout::SLOT_SIZE;
use std::io;
use std::ptr::NonNull;

/// `n_slots` times [`SLOT_SIZE`] of private memory: address space is reserved for all, pages exist where they were touched.
///
/// The guest cannot reach it, so plain references into it are sound.
#[derive(Debug)]
pub struct ImageMapping {
    base: NonNull<u8>,
    n_slots: u32,
}

// SAFETY: the mapping is owned by this value alone and has no tie to the thread that made it.
unsafe impl Send for ImageMapping {}

impl ImageMapping {
    /// Reserves the address space. `n_slots` must not be 0.
    pub fn new(n_slots: u32) -> io::Result<Self> {
        let len = n_slots as usize * SLOT_SIZE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory that exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A huge page would give every slot the memory of eight. Best effort: a kernel without huge pages refuses the advice.
        // SAFETY: the range is the mapping just made; the advice changes no contents.
        unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapping at address 0"))?;
        Ok(Self { base, n_slots })
    }

    /// The bytes of a slot's image.
    pub fn slot(&self, slot: u32) -> Option<&[u8]> {
        let start = self.start(slot)?;
        // SAFETY: `start` is the start of SLOT_SIZE mapped, initialised (zero) bytes inside the mapping; `&self` keeps
        // writers away for the lifetime of the reference.
        Some(unsafe { std::slice::from_raw_parts(start, SLOT_SIZE) })
    }

    /// The bytes of a slot's image, to change them.
    pub fn slot_mut(&mut self, slot: u32) -> Option<&mut [u8]> {
        let start = self.start(slot)?;
        // SAFETY: as in `slot`; `&mut self` makes this the only reference.
        Some(unsafe { std::slice::from_raw_parts_mut(start, SLOT_SIZE) })
    }

    /// Gives a slot's pages back to the kernel; its bytes are zero afterwards.
    pub fn free(&mut self, slot: u32) {
        if let Some(start) = self.start(slot) {
            // SAFETY: the range lies in the mapping, is page-aligned, and `&mut self` means that no reference to it exists.
            unsafe { libc::madvise(start.cast(), SLOT_SIZE, libc::MADV_DONTNEED) };
        }
    }

    fn start(&self, slot: u32) -> Option<*mut u8> {
        // SAFETY: slot < n_slots, so the offset stays inside the mapping of n_slots * SLOT_SIZE bytes.
        (slot < self.n_slots).then(|| unsafe { self.base.as_ptr().add(slot as usize * SLOT_SIZE) })
    }
}

impl Drop for ImageMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and no reference outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.n_slots as usize * SLOT_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slots_are_apart_and_zero_after_free() {
        let mut mapping = ImageMapping::new(3).unwrap();
        mapping.slot_mut(1).unwrap().fill(7);
        assert!(mapping.slot(0).unwrap().iter().chain(mapping.slot(2).unwrap()).all(|b| *b == 0));
        assert!(mapping.slot(1).unwrap().iter().all(|b| *b == 7));
        mapping.free(1);
        assert!(mapping.slot(1).unwrap().iter().all(|b| *b == 0));
        assert!(mapping.slot(3).is_none() && mapping.slot_mut(u32::MAX).is_none());
        mapping.free(3);
    }
}
