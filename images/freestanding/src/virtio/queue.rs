//! The split virtqueue, driver side (virtio 1.2, section 2.7), with one fixed descriptor per buffer.
//!
//! Buffers are known by their id, which is the index of their descriptor. [`Queue::post`] writes an entry of the available
//! ring without showing it; [`Queue::publish`] shows all of them at once; [`Queue::needs_kick`] says afterwards whether
//! the device wants to be told. The ring has as many entries as there are descriptors, so it cannot overflow.

use alloc::alloc::alloc_zeroed;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// Most entries of a queue.
pub const QUEUE_SIZE: u16 = 256;
const N: usize = QUEUE_SIZE as usize;
/// Descriptor flag: the device writes the buffer.
const DESCRIPTOR_WRITE: u16 = 2;
/// Flag of the available ring: no interrupts, please (ignored under EVENT_IDX).
const NO_INTERRUPT: u16 = 1;
/// Flag of the used ring: no notifications, please (0 under EVENT_IDX).
const NO_NOTIFY: u16 = 1;

/// A descriptor. Every field is atomic because the device reads it at any time.
#[repr(C)]
pub(super) struct Descriptor {
    pub(super) address: AtomicU64,
    pub(super) len: AtomicU32,
    flags: AtomicU16,
    next: AtomicU16,
}

#[repr(C)]
pub(super) struct Available {
    flags: AtomicU16,
    pub(super) index: AtomicU16,
    /// For smaller queues the entry behind the last holds the used event.
    pub(super) ring: [AtomicU16; N + 1],
}

#[repr(C, align(4))]
pub(super) struct Used {
    flags: AtomicU16,
    pub(super) index: AtomicU16,
    pub(super) ring: [UsedEntry; N],
    /// Available event, of a queue of full size.
    available_event: AtomicU16,
}

#[repr(C)]
pub(super) struct UsedEntry {
    pub(super) id: AtomicU32,
    pub(super) len: AtomicU32,
}

/// What driver and device share, zeroed at first.
#[repr(C, align(4096))]
pub(super) struct Rings {
    pub(super) descriptors: [Descriptor; N],
    pub(super) available: Available,
    pub(super) used: Used,
}

/// A virtqueue.
pub struct Queue {
    pub(super) rings: &'static Rings,
    size: u16,
    event_idx: bool,
    /// Entries written to the available ring, free-running; shown up to the ring's own index.
    posted: u16,
    /// Value of the available index at the last look whether the device wants a kick.
    kick_checked: u16,
    /// Entries of the used ring taken so far, free-running.
    taken: u16,
}

impl Queue {
    /// An empty queue of `size` entries (a power of two up to [`QUEUE_SIZE`]), which asks for no interrupts; `None` for
    /// another size or without memory. Its memory is never freed: the device may hold its address for ever.
    pub fn new(size: u16, event_idx: bool) -> Option<Self> {
        if !size.is_power_of_two() || size > QUEUE_SIZE {
            return None;
        }
        // SAFETY: the layout is not of size 0; zeroed atomics are valid, and the memory lives for ever.
        let rings = unsafe { NonNull::new(alloc_zeroed(Layout::new::<Rings>()).cast::<Rings>())?.as_ref() };
        let mut queue = Self { rings, size, event_idx, posted: 0, kick_checked: 0, taken: 0 };
        queue.want_interrupts(false);
        Some(queue)
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Physical addresses of descriptors, available ring and used ring.
    pub fn addresses(&self) -> [u64; 3] {
        [
            (&raw const self.rings.descriptors) as u64,
            (&raw const self.rings.available) as u64,
            (&raw const self.rings.used) as u64,
        ]
    }

    /// Describes buffer `id`: where it lies, its length, and who writes it. Out of range: nothing happens.
    pub fn describe(&mut self, id: u16, address: u64, len: u32, device_writes: bool) {
        let Some(descriptor) = self.rings.descriptors.get(usize::from(id)) else { return };
        descriptor.address.store(address, Ordering::Relaxed);
        descriptor.len.store(len, Ordering::Relaxed);
        descriptor.flags.store(if device_writes { DESCRIPTOR_WRITE } else { 0 }, Ordering::Relaxed);
    }

    /// Writes a descriptor as it is, chained or nonsensical. For test guests that lie to their device.
    pub fn describe_raw(&mut self, id: u16, address: u64, len: u32, flags: u16, next: u16) {
        let Some(descriptor) = self.rings.descriptors.get(usize::from(id)) else { return };
        descriptor.address.store(address, Ordering::Relaxed);
        descriptor.len.store(len, Ordering::Relaxed);
        descriptor.next.store(next, Ordering::Relaxed);
        descriptor.flags.store(flags, Ordering::Relaxed);
    }

    /// Sets the available index as it is, and forgets what was posted. For test guests that lie to their device.
    pub fn publish_raw(&mut self, index: u16) {
        self.posted = index;
        self.rings.available.index.store(index, Ordering::Release);
    }

    /// Sets the length of buffer `id`.
    pub fn set_len(&mut self, id: u16, len: u32) {
        if let Some(descriptor) = self.rings.descriptors.get(usize::from(id)) {
            descriptor.len.store(len, Ordering::Relaxed);
        }
    }

    /// Gives buffer `id` to the device, without showing it yet.
    pub fn post(&mut self, id: u16) {
        let at = usize::from(self.posted % self.size);
        if let Some(entry) = self.rings.available.ring.get(at) {
            entry.store(id, Ordering::Relaxed);
        }
        self.posted = self.posted.wrapping_add(1);
    }

    /// Shows everything posted, and everything written before to the device. True if there was something to show.
    pub fn publish(&mut self) -> bool {
        let index = &self.rings.available.index;
        if index.load(Ordering::Relaxed) == self.posted {
            return false;
        }
        index.store(self.posted, Ordering::Release);
        true
    }

    /// Buffers have been published since the last call, and the device wants to be told.
    pub fn needs_kick(&mut self) -> bool {
        let (old, new) = (self.kick_checked, self.rings.available.index.load(Ordering::Relaxed));
        if old == new {
            return false;
        }
        self.kick_checked = new;
        // The index must be visible before the device's wish is read: else both sides may wait for each other.
        fence(Ordering::SeqCst);
        if self.event_idx {
            passed(self.available_event().load(Ordering::Relaxed), new, old)
        } else {
            self.rings.used.flags.load(Ordering::Relaxed) & NO_NOTIFY == 0
        }
    }

    /// The device has returned buffers that were not taken yet.
    pub fn has_used(&self) -> bool {
        self.rings.used.index.load(Ordering::Acquire) != self.taken
    }

    /// The next buffer that the device returned: its id, and how many bytes the device says that it wrote.
    pub fn take_used(&mut self) -> Option<(u16, u32)> {
        if !self.has_used() {
            return None;
        }
        let entry = self.rings.used.ring.get(usize::from(self.taken % self.size))?;
        self.taken = self.taken.wrapping_add(1);
        // An id that is no descriptor becomes one that no buffer has.
        let id = u16::try_from(entry.id.load(Ordering::Relaxed)).unwrap_or(u16::MAX);
        Some((id, entry.len.load(Ordering::Relaxed)))
    }

    /// Asks for an interrupt at the next returned buffer, or for none. After asking, look once more with
    /// [`Queue::has_used`]: a buffer returned before brings no interrupt. "None" holds for 2^15 buffers under EVENT_IDX,
    /// so it is to be repeated now and then.
    pub fn want_interrupts(&mut self, wanted: bool) {
        if self.event_idx {
            let event = if wanted { self.taken } else { self.taken.wrapping_add(1 << 15) };
            self.used_event().store(event, Ordering::Relaxed);
        } else {
            self.rings.available.flags.store(if wanted { 0 } else { NO_INTERRUPT }, Ordering::Relaxed);
        }
        if wanted {
            fence(Ordering::SeqCst);
        }
    }

    /// Behind the available ring: the driver wants an interrupt when the used index passes it.
    fn used_event(&self) -> &AtomicU16 {
        &self.rings.available.ring[usize::from(self.size)]
    }

    /// Behind the used ring: the device wants a kick when the available index passes it.
    fn available_event(&self) -> &AtomicU16 {
        let used = &self.rings.used;
        if self.size == QUEUE_SIZE {
            return &used.available_event;
        }
        // SAFETY: the low half of an aligned `AtomicU32`, which nothing else accesses in a queue of this size.
        unsafe { AtomicU16::from_ptr(used.ring[usize::from(self.size)].id.as_ptr().cast()) }
    }
}

/// `vring_need_event` of the specification (section 2.7.10): the index went from `old` to `new` past `event`.
pub(super) fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::virtio::test_device::Device;

    #[test]
    fn rings_lie_as_the_specification_says() {
        assert_eq!(size_of::<Descriptor>(), 16);
        assert_eq!(core::mem::offset_of!(Rings, available) % 2, 0);
        assert_eq!(core::mem::offset_of!(Rings, used) % 4, 0);
        assert_eq!(core::mem::offset_of!(Available, ring), 4);
        assert_eq!(core::mem::offset_of!(Used, ring), 4);
        // The events lie directly behind the rings of a full queue.
        assert_eq!(core::mem::offset_of!(Used, available_event), 4 + 8 * N);
        assert_eq!(size_of::<Available>(), 4 + 2 * N + 2);
    }

    #[test]
    fn only_powers_of_two_are_sizes() {
        for size in [0, 3, 255, 512] {
            assert!(Queue::new(size, true).is_none(), "{size}");
        }
    }

    #[test]
    fn nothing_is_visible_before_publish() {
        let mut queue = Queue::new(4, false).unwrap();
        let mut device = Device::of(&queue);
        queue.post(2);
        queue.post(0);
        assert_eq!(device.take(), None);
        assert!(!queue.needs_kick(), "nothing is published");
        assert!(queue.publish());
        assert!(!queue.publish(), "nothing new");
        assert!(queue.needs_kick());
        assert!(!queue.needs_kick(), "asked once per batch");
        assert_eq!((device.take(), device.take(), device.take()), (Some(2), Some(0), None));
    }

    #[test]
    fn the_flag_suppresses_kicks() {
        let mut queue = Queue::new(4, false).unwrap();
        queue.rings.used.flags.store(NO_NOTIFY, Ordering::Relaxed);
        queue.post(1);
        queue.publish();
        assert!(!queue.needs_kick());
    }

    #[test]
    fn event_index_suppresses_kicks_until_passed() {
        for size in [4, QUEUE_SIZE] {
            let mut queue = Queue::new(size, true).unwrap();
            let mut device = Device::of(&queue);
            let mut kicked = Vec::new();
            for round in 0..8u16 {
                queue.available_event().store(if round < 5 { 4 } else { 6 }, Ordering::Relaxed);
                queue.post(0);
                queue.publish();
                kicked.push(queue.needs_kick());
                device.take().unwrap();
            }
            assert_eq!(kicked, [false, false, false, false, true, false, true, false], "size {size}");
        }
    }

    #[test]
    fn interrupts_come_only_when_asked_for_and_across_the_wrap_of_the_index() {
        let mut queue = Queue::new(QUEUE_SIZE, true).unwrap();
        let device = Device::of(&queue);
        for round in 0..200_000u32 {
            let asked = round % 1000 == 7;
            queue.want_interrupts(asked);
            assert_eq!(device.give_back(round % 256, round), asked, "round {round}");
            assert_eq!(queue.take_used(), Some(((round % 256) as u16, round)));
            assert_eq!(queue.take_used(), None);
        }
    }

    #[test]
    fn impossible_ids_do_not_name_a_buffer() {
        let mut queue = Queue::new(8, false).unwrap();
        let device = Device::of(&queue);
        device.give_back(u32::MAX, 5);
        device.give_back(0x1_0003, 5);
        assert_eq!(queue.take_used(), Some((u16::MAX, 5)));
        assert_eq!(queue.take_used(), Some((u16::MAX, 5)));
        queue.describe(u16::MAX, 0, 0, true);
        queue.set_len(u16::MAX, 9);
    }
}
