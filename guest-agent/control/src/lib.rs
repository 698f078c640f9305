//! The guest's side of the control pages: the two rings and the signs of life.
//!
//! Bound of each ring: [`RING_ENTRIES`]. When the guest→host ring is full, [`GuestRing::send`] says so and the caller
//! keeps the message; the host→guest ring is bounded by the host.
#![cfg_attr(not(test), no_std)]

use core::sync::atomic::{AtomicU32, Ordering, fence};
use escape_abi::control::{CONTROL_MAGIC, RING_ENTRIES};
use escape_abi::{ControlHeader, ControlLayout, GuestMessage, HostMessage, RingEntry};

/// The three parts that different owners hold.
pub struct Control {
    /// Signs of life.
    pub heartbeat: Heartbeat,
    /// Host → guest.
    pub host_ring: HostRing,
    /// Guest → host.
    pub guest_ring: GuestRing,
}

impl Control {
    /// The control pages at `base`, for an arena of `n_slots`; `None` if the host has not initialised them so.
    ///
    /// # Safety
    /// `base` is mapped for [`ControlLayout::bytes`] for ever, and this is the only value made for it.
    pub unsafe fn attach(base: *mut u8, n_slots: u32) -> Option<Self> {
        // SAFETY: the caller's promise; everything in the header that changes is atomic.
        let header: &'static ControlHeader = unsafe { &*base.cast() };
        if header.magic != CONTROL_MAGIC || header.n_slots != n_slots || n_slots > escape_abi::layout::SLOTS_MAX {
            return None;
        }
        let layout = ControlLayout::new(n_slots);
        // SAFETY: offsets of the layout lie in the mapped range.
        let (host, guest) =
            unsafe { (base.add(layout.host_ring as usize).cast(), base.add(layout.guest_ring as usize).cast()) };
        Some(Self {
            heartbeat: Heartbeat { header },
            host_ring: HostRing { header, entries: host, head: header.host_head.0.load(Ordering::Relaxed), unknown: 0 },
            guest_ring: GuestRing { header, entries: guest, tail: header.guest_tail.0.load(Ordering::Relaxed) },
        })
    }
}

/// What the host watches to know that the main loop runs.
pub struct Heartbeat {
    header: &'static ControlHeader,
}

impl Heartbeat {
    /// A turn of the main loop: counts it, and answers a ping.
    pub fn beat(&self) {
        let ControlHeader { ping, pong, turns, .. } = self.header;
        turns.0.store(turns.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let asked = ping.0.load(Ordering::Acquire);
        if pong.0.load(Ordering::Relaxed) != asked {
            pong.0.store(asked, Ordering::Release);
        }
    }

    /// A ping waits for its answer.
    pub fn is_asked(&self) -> bool {
        self.header.ping.0.load(Ordering::Acquire) != self.header.pong.0.load(Ordering::Relaxed)
    }

    /// Says whether the guest may halt: the host leaves out the interrupt while it does not. When it goes to sleep,
    /// look for work *after* this call: it orders the flag before the look.
    pub fn set_asleep(&self, asleep: bool) {
        self.header.asleep.0.store(u32::from(asleep), Ordering::SeqCst);
        if asleep {
            fence(Ordering::SeqCst);
        }
    }
}

/// Consumer of the host→guest ring.
pub struct HostRing {
    header: &'static ControlHeader,
    entries: *const RingEntry,
    head: u32,
    unknown: u64,
}

impl HostRing {
    /// Entries wait.
    pub fn has_entries(&self) -> bool {
        self.header.host_tail.0.load(Ordering::Acquire) != self.head
    }

    /// The message that so many others stand before, without taking it; `None`: there is none, or it is of an unknown kind.
    pub fn peek(&self, before: u32) -> Option<HostMessage> {
        let waiting = self.header.host_tail.0.load(Ordering::Acquire).wrapping_sub(self.head);
        if before >= waiting.min(RING_ENTRIES) {
            return None;
        }
        let at = (self.head.wrapping_add(before) % RING_ENTRIES) as usize;
        // SAFETY: as in `receive`.
        unsafe { self.entries.add(at).read_volatile() }.host_message()
    }

    /// The next message. Entries of unknown kinds are counted and skipped.
    pub fn receive(&mut self) -> Option<HostMessage> {
        while self.has_entries() {
            let at = (self.head % RING_ENTRIES) as usize;
            // SAFETY: `at` is inside the ring; the acquire of the tail orders the host's writes of the entry before.
            let entry = unsafe { self.entries.add(at).read_volatile() };
            self.head = self.head.wrapping_add(1);
            self.header.host_head.0.store(self.head, Ordering::Release);
            if let Some(message) = entry.host_message() {
                return Some(message);
            }
            self.unknown += 1;
        }
        None
    }

    /// Entries skipped so far.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }
}

/// Producer of the guest→host ring.
pub struct GuestRing {
    header: &'static ControlHeader,
    entries: *mut RingEntry,
    tail: u32,
}

impl GuestRing {
    /// Appends a message; false if the ring is full. The host sees it at its next look; ringing the doorbell is the
    /// caller's business.
    #[must_use]
    pub fn send(&mut self, message: GuestMessage) -> bool {
        self.send_raw(RingEntry::from(message))
    }

    /// Appends an entry as it is; false if the ring is full.
    #[must_use]
    pub fn send_raw(&mut self, entry: RingEntry) -> bool {
        let ControlHeader { guest_head, guest_tail, .. } = self.header;
        if self.tail.wrapping_sub(guest_head.0.load(Ordering::Acquire)) >= RING_ENTRIES {
            return false;
        }
        let at = (self.tail % RING_ENTRIES) as usize;
        // SAFETY: `at` is inside the ring, and the host has consumed what was there.
        unsafe { self.entries.add(at).write_volatile(entry) };
        self.tail = self.tail.wrapping_add(1);
        publish(&guest_tail.0, self.tail);
        true
    }
}

/// Makes everything written so far visible with the index.
fn publish(index: &AtomicU32, value: u32) {
    index.store(value, Ordering::Release);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::alloc::{Layout, alloc_zeroed};

    const SLOTS: u32 = 64;

    /// Control pages as the host leaves them; they live as long as the test process, as `attach` wants.
    fn pages() -> (*mut u8, &'static ControlHeader) {
        let layout = ControlLayout::new(SLOTS);
        // SAFETY: a zeroed header is valid; magic and slots are written before anybody shares it.
        unsafe {
            let base = alloc_zeroed(Layout::from_size_align(layout.bytes as usize, 4096).unwrap());
            let header = base.cast::<ControlHeader>();
            (&raw mut (*header).magic).write(CONTROL_MAGIC);
            (&raw mut (*header).n_slots).write(SLOTS);
            (base, &*header)
        }
    }

    fn attach(base: *mut u8) -> Control {
        // SAFETY: `pages` never frees.
        unsafe { Control::attach(base, SLOTS) }.unwrap()
    }

    #[test]
    fn foreign_pages_are_refused() {
        let (base, _) = pages();
        // SAFETY: `pages` never frees.
        assert!(unsafe { Control::attach(base, SLOTS + 1) }.is_none());
        // SAFETY: zeroed pages of the same size.
        let blank =
            unsafe { alloc_zeroed(Layout::from_size_align(ControlLayout::new(SLOTS).bytes as usize, 4096).unwrap()) };
        // SAFETY: never freed.
        assert!(unsafe { Control::attach(blank, SLOTS) }.is_none());
    }

    #[test]
    fn messages_leave_in_order_and_a_full_ring_says_so() {
        let (base, header) = pages();
        let mut ring = attach(base).guest_ring;
        for slot in 0..RING_ENTRIES {
            assert!(ring.send(GuestMessage::Changed { slot }));
        }
        assert!(!ring.send(GuestMessage::Ready), "full");
        assert_eq!(header.guest_tail.0.load(Ordering::Acquire), RING_ENTRIES);
        let first = base.wrapping_add(ControlLayout::new(SLOTS).guest_ring as usize).cast::<RingEntry>();
        // SAFETY: inside the pages.
        let second = unsafe { first.add(1).read_volatile() };
        assert_eq!(second.guest_message(), Some(GuestMessage::Changed { slot: 1 }));
        header.guest_head.0.store(1, Ordering::Release);
        assert!(ring.send(GuestMessage::Ready), "one entry was consumed");
        assert!(!ring.send(GuestMessage::Ready));
    }

    #[test]
    fn host_messages_arrive_once_and_unknown_ones_are_counted() {
        let (base, header) = pages();
        let mut ring = attach(base).host_ring;
        let entries = base.wrapping_add(ControlLayout::new(SLOTS).host_ring as usize).cast::<RingEntry>();
        let plug = HostMessage::Plug { slot: 5, incarnation: 9 };
        for (at, entry) in [RingEntry { kind: 99, word: [0; 7] }, plug.into()].into_iter().enumerate() {
            // SAFETY: inside the pages.
            unsafe { entries.add(at).write_volatile(entry) };
        }
        assert_eq!((ring.receive(), ring.peek(0)), (None, None), "not published yet");
        header.host_tail.0.store(2, Ordering::Release);
        let seen = [0, 1, 2, RING_ENTRIES, u32::MAX].map(|before| ring.peek(before));
        assert_eq!(seen, [None, Some(plug), None, None, None], "looked at, not taken");
        assert_eq!(ring.receive(), Some(plug));
        assert_eq!(ring.receive(), None);
        assert_eq!((ring.unknown(), header.host_head.0.load(Ordering::Acquire)), (1, 2));
    }

    #[test]
    fn a_ping_is_answered_by_the_next_turn() {
        let (base, header) = pages();
        let heartbeat = attach(base).heartbeat;
        header.ping.0.store(7, Ordering::Release);
        assert!(heartbeat.is_asked());
        heartbeat.beat();
        assert!(!heartbeat.is_asked());
        assert_eq!((header.pong.0.load(Ordering::Acquire), header.turns.0.load(Ordering::Acquire)), (7, 1));
        heartbeat.set_asleep(true);
        assert_eq!(header.asleep.0.load(Ordering::Acquire), 1);
    }
}
