//! The registers by which a driver describes a virtqueue (virtio 1.2, section 4.2.2), and the queue made of them.

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Why a described queue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueSetupError {
    /// An address is not aligned, or the size not possible.
    #[error("queue of {size} at {desc:#x}, {avail:#x}, {used:#x}: {source}")]
    Geometry {
        /// Its size.
        size: u16,
        /// Descriptor table.
        desc: u64,
        /// Available ring.
        avail: u64,
        /// Used ring.
        used: u64,
        /// What is wrong.
        source: virtio_queue::Error,
    },
    /// A part does not lie in RAM.
    #[error("queue of {size} at {desc:#x}, {avail:#x}, {used:#x} does not lie in RAM")]
    Outside {
        /// Its size.
        size: u16,
        /// Descriptor table.
        desc: u64,
        /// Available ring.
        avail: u64,
        /// Used ring.
        used: u64,
    },
}

/// One queue's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSetup {
    size_max: u16,
    size: u16,
    desc: u64,
    avail: u64,
    used: u64,
    ready: bool,
}

impl QueueSetup {
    /// After reset, for a queue of at most `size_max` descriptors (a power of two).
    pub fn new(size_max: u16) -> Self {
        Self { size_max, size: size_max, desc: 0, avail: 0, used: 0, ready: false }
    }

    /// Most descriptors.
    pub fn size_max(&self) -> u16 {
        self.size_max
    }

    /// The QueueReady register.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// Writes QueueNum: a power of two up to the maximum.
    pub fn set_size(&mut self, size: u32) -> bool {
        let size = u16::try_from(size).ok().filter(|s| s.is_power_of_two() && *s <= self.size_max);
        self.change(size, |q, size| q.size = size)
    }

    /// Writes the bits `mask` of the address of the descriptor table.
    pub fn set_descriptors(&mut self, value: u64, mask: u64) -> bool {
        self.change(Some(value), |q, v| q.desc = q.desc & !mask | v & mask)
    }

    /// Writes the bits `mask` of the address of the available ring.
    pub fn set_avail(&mut self, value: u64, mask: u64) -> bool {
        self.change(Some(value), |q, v| q.avail = q.avail & !mask | v & mask)
    }

    /// Writes the bits `mask` of the address of the used ring.
    pub fn set_used(&mut self, value: u64, mask: u64) -> bool {
        self.change(Some(value), |q, v| q.used = q.used & !mask | v & mask)
    }

    /// Writes QueueReady. Taking a queue back is allowed as long as the caller lets the registers be written at all.
    pub fn set_ready(&mut self, ready: bool) -> bool {
        self.ready = ready;
        true
    }

    /// A ready queue's geometry is not changed (section 4.2.2.2).
    fn change<T>(&mut self, value: Option<T>, set: impl FnOnce(&mut Self, T)) -> bool {
        match value {
            Some(value) if !self.ready => {
                set(self, value);
                true
            }
            _ => false,
        }
    }

    /// The queue, if the driver made it ready; checked against RAM once and for all.
    pub fn build(&self, memory: &GuestMemoryMmap, event_idx: bool) -> Result<Option<Queue>, QueueSetupError> {
        if !self.ready {
            return Ok(None);
        }
        let Self { size, desc, avail, used, .. } = *self;
        let build = || {
            let mut queue = Queue::new(self.size_max)?;
            queue.try_set_size(size)?;
            queue.try_set_desc_table_address(GuestAddress(desc))?;
            queue.try_set_avail_ring_address(GuestAddress(avail))?;
            queue.try_set_used_ring_address(GuestAddress(used))?;
            queue.set_event_idx(event_idx);
            queue.set_ready(true);
            Ok(queue)
        };
        let queue = build().map_err(|source| QueueSetupError::Geometry { size, desc, avail, used, source })?;
        // An available ring at 0 is what `virtio-queue` takes for "not set".
        if avail != 0 && queue.is_valid(memory) {
            Ok(Some(queue))
        } else {
            Err(QueueSetupError::Outside { size, desc, avail, used })
        }
    }
}
