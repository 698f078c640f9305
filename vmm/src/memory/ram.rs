//! Ordinary RAM of the guest: what virtqueues and their buffers may lie in.

use super::error::MemoryError;
use super::shared_mapping::SharedMapping;
use escape_abi::layout::LAPIC_ALIAS;
use std::io;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};
use vmm_sys_util::fallocate::{FallocateMode, fallocate};

/// Least RAM: the boot area and a small image.
pub const RAM_BYTES_MIN: u64 = 4 << 20;
/// Most RAM: it ends below the alias of the local APIC.
pub const RAM_BYTES_MAX: u64 = LAPIC_ALIAS;

/// Guest-physical 0 up to `bytes`, memfd-backed.
///
/// Devices reach guest memory through this alone: control pages and arena are no place for a virtqueue or a frame.
#[derive(Clone, Debug)]
pub struct Ram {
    memory: GuestMemoryMmap,
    bytes: u64,
    host_address: u64,
}

impl Ram {
    /// Creates zeroed RAM. `bytes`: a multiple of 2 MiB from [`RAM_BYTES_MIN`] to [`RAM_BYTES_MAX`].
    pub fn new(bytes: u64) -> Result<Self, MemoryError> {
        if !(RAM_BYTES_MIN..=RAM_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(2 << 20) {
            return Err(MemoryError::RamSize { bytes, min: RAM_BYTES_MIN, max: RAM_BYTES_MAX });
        }
        let mapping = SharedMapping::new("ram", bytes)?;
        let host_address = mapping.host_address();
        let failed = |reason: String| MemoryError::Map { what: "ram", bytes, reason };
        let region = GuestRegionMmap::new(mapping.into_region(), GuestAddress(0))
            .ok_or_else(|| failed("address space overflows".into()))?;
        let memory = GuestMemoryMmap::from_regions(vec![region]).map_err(|e| failed(e.to_string()))?;
        Ok(Self { memory, bytes, host_address })
    }

    /// The RAM as the rust-vmm crates want it.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Size, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Host address of guest-physical 0.
    pub fn host_address(&self) -> u64 {
        self.host_address
    }

    /// Zeroes everything by giving the pages back.
    pub fn clear(&self) -> Result<(), MemoryError> {
        for region in self.memory.iter() {
            let file = region.file_offset().ok_or(io::ErrorKind::Unsupported.into());
            file.and_then(|f| {
                fallocate(f.file(), FallocateMode::PunchHole, true, 0, region.len())
                    .map_err(|e| io::Error::from_raw_os_error(e.errno()))
            })
            .map_err(|source| MemoryError::Clear { what: "ram", source })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn sizes_are_bounded() {
        for bytes in [0, 2 << 20, (4 << 20) + 4096, RAM_BYTES_MAX + (2 << 20)] {
            assert!(Ram::new(bytes).is_err(), "{bytes}");
        }
    }

    #[test]
    fn clear_forgets() {
        let ram = Ram::new(RAM_BYTES_MIN).unwrap();
        ram.memory().write_obj(77u64, GuestAddress(0x1000)).unwrap();
        ram.clear().unwrap();
        assert_eq!(ram.memory().read_obj::<u64>(GuestAddress(0x1000)).unwrap(), 0);
    }
}
