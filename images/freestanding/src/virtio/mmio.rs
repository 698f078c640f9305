//! The virtio-mmio transport, version 2 (virtio 1.2, section 4.2). Every access but a queue notification leaves for the
//! VMM's process: used at boot only.

use super::error::VirtioError;
use super::queue::{QUEUE_SIZE, Queue};

const MAGIC: usize = 0x00;
const VERSION: usize = 0x04;
const DEVICE_ID: usize = 0x08;
const DEVICE_FEATURES: usize = 0x10;
const DEVICE_FEATURES_SELECT: usize = 0x14;
const DRIVER_FEATURES: usize = 0x20;
const DRIVER_FEATURES_SELECT: usize = 0x24;
const QUEUE_SELECT: usize = 0x30;
const QUEUE_NUM_MAX: usize = 0x34;
const QUEUE_NUM: usize = 0x38;
const QUEUE_READY: usize = 0x44;
const QUEUE_NOTIFY: usize = 0x50;
const STATUS: usize = 0x70;
/// Low and high half of the addresses of descriptors, available ring, used ring.
const QUEUE_ADDRESSES: [usize; 3] = [0x80, 0x90, 0xa0];

const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"virt");
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const FAILED: u32 = 128;
/// Reads of the status register until a reset counts as failed.
const RESET_READS_MAX: u32 = 1000;

/// VIRTIO_F_VERSION_1: without it the device is a legacy one.
pub const F_VERSION_1: u64 = 1 << 32;
/// VIRTIO_F_EVENT_IDX.
pub const F_EVENT_IDX: u64 = 1 << 29;

/// A virtio-mmio device.
pub struct Mmio {
    registers: *mut u32,
}

impl Mmio {
    /// Looks for device type `id` (virtio 1.2, section 5) at `registers` and resets it.
    ///
    /// # Safety
    /// `registers` is mapped for [`escape_abi::layout::MMIO_STRIDE`] bytes, for ever.
    ///
    /// # Errors
    /// [`VirtioError::NoDevice`], [`VirtioError::NoReset`].
    pub unsafe fn find(registers: *mut u32, id: u32) -> Result<Self, VirtioError> {
        let mmio = Self { registers };
        let (magic, version, found) = (mmio.read(MAGIC), mmio.read(VERSION), mmio.read(DEVICE_ID));
        if (magic, version, found) != (MAGIC_VALUE, 2, id) {
            return Err(VirtioError::NoDevice { magic, version, id: found });
        }
        mmio.reset()?;
        mmio.write(STATUS, ACKNOWLEDGE | DRIVER);
        Ok(mmio)
    }

    /// Takes the device back to its state before [`Mmio::find`].
    ///
    /// # Errors
    /// [`VirtioError::NoReset`].
    pub fn reset(&self) -> Result<(), VirtioError> {
        self.write(STATUS, 0);
        (0..RESET_READS_MAX).find(|_| self.read(STATUS) == 0).map(drop).ok_or(VirtioError::NoReset)
    }

    /// Agrees on features: all of `needed`, and those of `wanted` that are offered. Returns the agreed set.
    ///
    /// # Errors
    /// [`VirtioError::Features`], [`VirtioError::Refused`].
    pub fn negotiate(&self, needed: u64, wanted: u64) -> Result<u64, VirtioError> {
        let offered = self.offered();
        if offered & needed != needed {
            self.write(STATUS, self.read(STATUS) | FAILED);
            return Err(VirtioError::Features(needed & !offered));
        }
        let agreed = offered & (needed | wanted);
        for (select, half) in [(0, agreed as u32), (1, (agreed >> 32) as u32)] {
            self.write(DRIVER_FEATURES_SELECT, select);
            self.write(DRIVER_FEATURES, half);
        }
        self.write(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        if self.read(STATUS) & FEATURES_OK == 0 {
            // Status bits are only ever added (section 2.1): those that the device kept, and this.
            self.write(STATUS, self.read(STATUS) | FAILED);
            return Err(VirtioError::Refused);
        }
        Ok(agreed)
    }

    /// The features that the device offers.
    pub fn offered(&self) -> u64 {
        let half = |select| {
            self.write(DEVICE_FEATURES_SELECT, select);
            u64::from(self.read(DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    /// Makes queue `index`, of at most [`QUEUE_SIZE`] entries.
    ///
    /// # Errors
    /// [`VirtioError::Queue`].
    pub fn queue(&self, index: u32, event_idx: bool) -> Result<Queue, VirtioError> {
        self.write(QUEUE_SELECT, index);
        let max = self.read(QUEUE_NUM_MAX);
        if max == 0 || self.read(QUEUE_READY) != 0 {
            return Err(VirtioError::Queue(index, max));
        }
        // A split queue's size is a power of two.
        let size = u16::try_from(1u32 << max.ilog2()).unwrap_or(QUEUE_SIZE).min(QUEUE_SIZE);
        let queue = Queue::new(size, event_idx).ok_or(VirtioError::Queue(index, max))?;
        self.write(QUEUE_NUM, u32::from(size));
        for (register, address) in QUEUE_ADDRESSES.into_iter().zip(queue.addresses()) {
            self.write(register, address as u32);
            self.write(register + 4, (address >> 32) as u32);
        }
        self.write(QUEUE_READY, 1);
        Ok(queue)
    }

    /// The end of the initialisation: the device is live.
    pub fn start(&self) {
        self.write(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }

    /// The means to tell the device that queue `index` has new buffers.
    pub fn kick(&self, index: u32) -> Kick {
        Kick { register: self.registers.wrapping_byte_add(QUEUE_NOTIFY), index }
    }

    /// Reads a register, by its byte offset (a multiple of 4 below the stride). For test guests.
    pub fn read(&self, offset: usize) -> u32 {
        assert!(offset < escape_abi::layout::MMIO_STRIDE as usize);
        // SAFETY: inside the mapped page; device registers have no other effect on this program.
        unsafe { self.registers.add(offset / 4).read_volatile() }
    }

    /// Writes a register, by its byte offset (a multiple of 4 below the stride). For test guests.
    pub fn write(&self, offset: usize, value: u32) {
        assert!(offset < escape_abi::layout::MMIO_STRIDE as usize);
        // SAFETY: as above.
        unsafe { self.registers.add(offset / 4).write_volatile(value) }
    }
}

/// A queue's notification.
pub struct Kick {
    register: *mut u32,
    index: u32,
}

impl Kick {
    /// A notification that lands in a cell instead of a device.
    #[cfg(test)]
    pub(super) fn into_cell(cell: &'static core::sync::atomic::AtomicU32, index: u32) -> Self {
        Self { register: cell.as_ptr(), index }
    }

    /// Tells the device that the queue has new buffers (an ioeventfd: no exit to user space).
    pub fn ring(&self) {
        // SAFETY: a register of a device that is mapped for ever ([`Mmio::find`]).
        unsafe { self.register.write_volatile(self.index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers that are plain memory: enough for a device that is not there.
    fn dead_device(magic: u32, version: u32, id: u32) -> Vec<u32> {
        let mut registers = vec![0; 1024];
        (registers[MAGIC / 4], registers[VERSION / 4], registers[DEVICE_ID / 4]) = (magic, version, id);
        registers
    }

    #[test]
    fn wrong_devices_are_refused() {
        for (magic, version, id) in
            [(0, 2, 1), (MAGIC_VALUE, 1, 1), (MAGIC_VALUE, 2, 4), (u32::MAX, u32::MAX, u32::MAX)]
        {
            let mut registers = dead_device(magic, version, id);
            // SAFETY: the vector outlives the device.
            let found = unsafe { Mmio::find(registers.as_mut_ptr(), 1) };
            assert_eq!(found.err(), Some(VirtioError::NoDevice { magic, version, id }));
        }
    }

    #[test]
    fn a_missing_feature_or_queue_is_named() {
        let mut registers = dead_device(MAGIC_VALUE, 2, 1);
        // SAFETY: the vector outlives the device.
        let Ok(mmio) = (unsafe { Mmio::find(registers.as_mut_ptr(), 1) }) else { panic!("it is there") };
        assert_eq!(mmio.negotiate(F_VERSION_1, 0), Err(VirtioError::Features(F_VERSION_1)));
        assert_eq!(mmio.queue(0, false).err(), Some(VirtioError::Queue(0, 0)));
    }
}
