//! The arena as this guest sees it: slice memory at the address that it has in every guest of a cell.

use crate::error::AgentError;
use escape_abi::layout::ARENA_BASE;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kernel's devices for memory of a purpose of its own (drivers/dax).
const DAX: &str = "/dev/dax*";
/// All of physical memory. Without the kernel's knowledge of the arena, hence without its page structures: other processes'
/// futexes and direct I/O do not work there.
const MEM: &str = "/dev/mem";
/// What is mapped of [`MEM`]: the least that an arena has.
const MEM_BYTES: usize = 16 << 20;

/// The arena, mapped where its pointers are valid.
#[derive(Debug)]
pub struct Arena {
    device: &'static str,
    bytes: usize,
}

impl Arena {
    /// Maps it: by its own device if the kernel has one, else by all of memory, with a warning.
    ///
    /// # Errors
    /// There is none, or it lies elsewhere.
    pub fn map() -> Result<Self, AgentError> {
        if let Ok(device) = escape_process::find_device(ARENA_BASE) {
            device.map_at(ARENA_BASE)?;
            return Ok(Self { device: DAX, bytes: device.bytes() });
        }
        eprintln!(
            "escape-agent: no {DAX} at {ARENA_BASE:#x} (modules dax_hmem and device_dax; \"slots\" in the image file): the arena by {MEM}"
        );
        map(MEM, ARENA_BASE, MEM_BYTES)
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// By what it was mapped.
    pub fn device(&self) -> &'static str {
        self.device
    }

    /// The word at an offset, a multiple of 8 inside the arena.
    pub fn word(&self, offset: usize) -> Option<&AtomicU64> {
        let inside = offset.is_multiple_of(8) && offset.checked_add(8)? <= self.bytes;
        let address = usize::try_from(ARENA_BASE).ok()?.checked_add(offset)?;
        // SAFETY: the word lies in the mapping, which stays for the life of the process, and is reached by atomic access only.
        inside.then(|| unsafe { &*(address as *const AtomicU64) })
    }

    /// Reads a word.
    pub fn read(&self, offset: usize) -> Option<u64> {
        Some(self.word(offset)?.load(Ordering::SeqCst))
    }

    /// Writes a word; `false`: it does not lie in the arena.
    pub fn write(&self, offset: usize, value: u64) -> bool {
        self.word(offset).map(|word| word.store(value, Ordering::SeqCst)).is_some()
    }
}

fn map(device: &'static str, from: u64, bytes: usize) -> Result<Arena, AgentError> {
    let error = |source| AgentError::Arena { device, source };
    let file = OpenOptions::new().read(true).write(true).open(device).map_err(error)?;
    let (at, flags) = (ARENA_BASE as *mut libc::c_void, libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE);
    let offset = libc::off_t::try_from(from).map_err(|_| error(io::ErrorKind::InvalidInput.into()))?;
    // SAFETY: a new mapping at a place where this process has none, which the kernel checks; nothing else is touched.
    let got = unsafe { libc::mmap(at, bytes, libc::PROT_READ | libc::PROT_WRITE, flags, file.as_raw_fd(), offset) };
    if got == at { Ok(Arena { device, bytes }) } else { Err(error(io::Error::last_os_error())) }
}
