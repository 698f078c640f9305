//! The other side of a virtqueue, for tests.

use super::queue::{Queue, Rings, passed};
use core::sync::atomic::Ordering;

/// The device's side of a queue's rings.
pub(super) struct Device {
    rings: &'static Rings,
    size: u16,
    seen: u16,
}

impl Device {
    pub(super) fn of(queue: &Queue) -> Self {
        Self { rings: queue.rings, size: queue.size(), seen: 0 }
    }

    /// The next buffer that the driver has shown.
    pub(super) fn take(&mut self) -> Option<u16> {
        if self.rings.available.index.load(Ordering::Acquire) == self.seen {
            return None;
        }
        let id = self.rings.available.ring[usize::from(self.seen % self.size)].load(Ordering::Relaxed);
        self.seen = self.seen.wrapping_add(1);
        Some(id)
    }

    /// The memory that descriptor `id` names: address and length.
    pub(super) fn buffer(&self, id: u16) -> (*mut u8, usize) {
        let descriptor = &self.rings.descriptors[usize::from(id)];
        (descriptor.address.load(Ordering::Relaxed) as *mut u8, descriptor.len.load(Ordering::Relaxed) as usize)
    }

    /// Returns a buffer; true if the driver asked for an interrupt (EVENT_IDX).
    pub(super) fn give_back(&self, id: u32, len: u32) -> bool {
        let used = &self.rings.used;
        let old = used.index.load(Ordering::Relaxed);
        let entry = &used.ring[usize::from(old % self.size)];
        entry.id.store(id, Ordering::Relaxed);
        entry.len.store(len, Ordering::Relaxed);
        used.index.store(old.wrapping_add(1), Ordering::Release);
        let event = self.rings.available.ring[usize::from(self.size)].load(Ordering::SeqCst);
        passed(event, old.wrapping_add(1), old)
    }
}
