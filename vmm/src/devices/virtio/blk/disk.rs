//! The host's side of a disk.

use super::config::{DiskConfig, SECTOR};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::path::PathBuf;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened.
    #[error("disk {}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("disk {}: in use by another program; two that write destroy each other's work", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// Its size is odd.
    #[error("disk {}: {bytes} bytes are no multiple of {SECTOR}, or none: a raw image is wanted", path.display())]
    Size {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Too many.
    #[error("{count} disks; a guest may have {max}")]
    TooMany {
        /// How many.
        count: usize,
        /// The most.
        max: usize,
    },
}

/// An open disk, locked against other programs that ask: exclusively if it may be written.
#[derive(Debug)]
pub struct Disk {
    file: File,
    sectors: u64,
    read_only: bool,
}

impl Disk {
    /// Opens it.
    ///
    /// # Errors
    /// [`DiskError`] names it and says what is wrong.
    pub fn open(config: &DiskConfig) -> Result<Self, DiskError> {
        let DiskConfig { path, read_only } = config;
        let failed = |source| DiskError::Open { path: path.clone(), source };
        let mut file = OpenOptions::new().read(true).write(!read_only).open(path).map_err(failed)?;
        let locked = if *read_only { file.try_lock_shared() } else { file.try_lock() };
        match locked {
            Err(TryLockError::WouldBlock) => return Err(DiskError::InUse { path: path.clone() }),
            // A file system without locks: nobody else can ask either.
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "no lock on a disk"),
            Ok(()) => {}
        }
        // Of a block device, too.
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
            return Err(DiskError::Size { path: path.clone(), bytes });
        }
        Ok(Self { file, sectors: bytes / SECTOR, read_only: *read_only })
    }

    /// Its size.
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// The guest may not write.
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Reads from byte `at` of the disk into guest memory.
    pub(super) fn read(&mut self, at: u64, memory: &GuestMemoryMmap, to: GuestAddress, len: usize) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        memory.read_exact_volatile_from(to, &mut self.file, len).map_err(io::Error::other)
    }

    /// Writes guest memory to byte `at` of the disk.
    pub(super) fn write(
        &mut self,
        at: u64,
        memory: &GuestMemoryMmap,
        from: GuestAddress,
        len: usize,
    ) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        memory.write_all_volatile_to(from, &mut self.file, len).map_err(io::Error::other)
    }

    /// What was written is on the disk when this returns.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
