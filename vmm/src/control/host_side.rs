//! The host's side of the control rings (layout: `escape_abi::control`).
//!
//! Single producer and single consumer in each direction, free-running 32-bit indices. The guest's indices and entries
//! are read once each and believed nowhere.

use super::metrics::ControlMetrics;
use crate::interrupts::Interrupt;
use crate::memory::ControlPages;
use crate::memory::control_pages::{HeaderCounter, HeaderIndex};
use escape_abi::control::RING_ENTRIES;
use escape_abi::{GuestMessage, HostMessage, RingEntry};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;
use vmm_sys_util::eventfd::EventFd;

/// Messages that wait for room in the ring. When this is full too, [`Control::send`] refuses: a guest that has not
/// taken 16,384 messages is hung, and its node must treat it so.
pub const OVERFLOW_MESSAGES_MAX: usize = 8192;
/// Malformed entries skipped per call of [`Control::recv`].
const SKIPPED_PER_CALL_MAX: usize = 64;

/// Both rings, the counters for signs of life, and the interrupt that says "look"; used by the I/O thread alone.
#[derive(Debug)]
pub struct Control {
    pages: Arc<ControlPages>,
    interrupt: Interrupt,
    doorbell: Arc<EventFd>,
    host_tail: u32,
    guest_head: u32,
    overflow: VecDeque<RingEntry>,
    unannounced: bool,
    metrics: ControlMetrics,
}

impl Control {
    /// The host's side of these pages. `doorbell` is what the guest rings.
    pub fn new(pages: Arc<ControlPages>, interrupt: Interrupt, doorbell: Arc<EventFd>) -> Self {
        Self {
            pages,
            interrupt,
            doorbell,
            host_tail: 0,
            guest_head: 0,
            overflow: VecDeque::new(),
            unannounced: false,
            metrics: ControlMetrics::default(),
        }
    }

    /// Counters.
    pub fn metrics(&self) -> ControlMetrics {
        self.metrics
    }

    /// After the pages were zeroed for a new guest: indices back to 0, nothing waits.
    pub fn reset(&mut self) {
        (self.host_tail, self.guest_head, self.unannounced) = (0, 0, false);
        self.overflow.clear();
        self.clear_doorbell();
    }

    /// Empties the doorbell. To be called before the messages are taken, so that none is missed.
    pub fn clear_doorbell(&self) {
        let _ = self.doorbell.read();
    }

    /// The next message of the guest; `None` when there is none, or after so many malformed entries that others must
    /// have a turn (the doorbell is rung again then).
    pub fn recv(&mut self) -> Option<GuestMessage> {
        let tail = self.pages.index(HeaderIndex::GuestTail)?.load(Acquire);
        let waiting = tail.wrapping_sub(self.guest_head);
        if waiting > RING_ENTRIES {
            self.metrics.indices_impossible += 1;
            self.take_up_to(tail);
            return None;
        }
        let look_at = usize::try_from(waiting).unwrap_or(0).min(SKIPPED_PER_CALL_MAX);
        for _ in 0..look_at {
            let entry = self.pages.guest_entry(self.guest_head % RING_ENTRIES)?;
            self.take_up_to(self.guest_head.wrapping_add(1));
            if let Some(message) = entry.guest_message() {
                self.metrics.received += 1;
                return Some(message);
            }
            self.metrics.malformed += 1;
        }
        if self.guest_head != tail {
            let _ = self.doorbell.write(1);
        }
        None
    }

    fn take_up_to(&mut self, index: u32) {
        self.guest_head = index;
        if let Some(head) = self.pages.index(HeaderIndex::GuestHead) {
            head.store(index, Release);
        }
    }

    /// Sends a message; the guest looks at the latest after [`Control::notify`]. `false`: it was refused because ring
    /// and waiting room are full (see [`OVERFLOW_MESSAGES_MAX`]).
    pub fn send(&mut self, message: HostMessage) -> bool {
        let entry = RingEntry::from(message);
        self.drain_overflow();
        if self.overflow.is_empty() && self.put(&entry) {
            return true;
        }
        if self.overflow.len() >= OVERFLOW_MESSAGES_MAX {
            self.metrics.refused += 1;
            return false;
        }
        self.metrics.overflowed += 1;
        self.overflow.push_back(entry);
        true
    }

    /// Messages that wait for room.
    pub fn overflowing(&self) -> usize {
        self.overflow.len()
    }

    /// Makes sure that the guest looks at what was sent: an interrupt, unless it is awake anyway. Also to be called now
    /// and then while messages wait for room.
    pub fn notify(&mut self) {
        self.drain_overflow();
        if !std::mem::take(&mut self.unannounced) {
            return;
        }
        // The guest sets `asleep`, then looks at the ring; here the ring is written, then `asleep` read.
        fence(SeqCst);
        let asleep = self.pages.index(HeaderIndex::Asleep).is_none_or(|a| a.load(Relaxed) != 0);
        if asleep {
            self.metrics.interrupts += 1;
            self.interrupt.raise();
        } else {
            self.metrics.interrupts_spared += 1;
        }
    }

    /// Wakes the guest whether it has messages or not (after a hold was cleared, for instance).
    pub fn kick(&mut self) {
        self.unannounced = true;
        self.notify();
    }

    fn drain_overflow(&mut self) {
        while let Some(entry) = self.overflow.front().copied() {
            if !self.put(&entry) {
                return;
            }
            self.overflow.pop_front();
        }
    }

    fn put(&mut self, entry: &RingEntry) -> bool {
        let Some(head) = self.pages.index(HeaderIndex::HostHead).map(|h| h.load(Acquire)) else { return false };
        // An index ahead of ours is a lie; the ring then looks full for ever, which harms the guest alone.
        if self.host_tail.wrapping_sub(head) >= RING_ENTRIES {
            return false;
        }
        if !self.pages.set_host_entry(self.host_tail % RING_ENTRIES, entry) {
            return false;
        }
        self.host_tail = self.host_tail.wrapping_add(1);
        if let Some(tail) = self.pages.index(HeaderIndex::HostTail) {
            tail.store(self.host_tail, Release);
        }
        self.unannounced = true;
        self.metrics.sent += 1;
        true
    }

    /// Asks the agent's main loop for a sign of life: it will show as [`Control::pong`].
    pub fn ping(&mut self, number: u64) {
        if let Some(ping) = self.pages.counter(HeaderCounter::Ping) {
            ping.store(number, Release);
        }
        self.kick();
    }

    /// The last ping that the agent has seen (the guest may lie: it is its own heartbeat).
    pub fn pong(&self) -> u64 {
        self.pages.counter(HeaderCounter::Pong).map_or(0, |c| c.load(Acquire))
    }

    /// The guest says that it halts or is about to: its main loop is at nothing.
    pub fn is_asleep(&self) -> bool {
        self.pages.index(HeaderIndex::Asleep).is_some_and(|asleep| asleep.load(Acquire) != 0)
    }

    /// Turns of the agent's main loop.
    pub fn turns(&self) -> u64 {
        self.pages.counter(HeaderCounter::Turns).map_or(0, |c| c.load(Acquire))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    fn control() -> Control {
        let pages = Arc::new(ControlPages::new(64).unwrap());
        Control::new(pages, Interrupt::new().unwrap(), Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()))
    }

    /// Plays the guest: writes an entry at `index` without moving the tail.
    fn guest_writes(c: &Control, index: u32, entry: RingEntry) {
        let at = c.pages.layout().guest_ring + 64 * u64::from(index % RING_ENTRIES);
        let mut bytes = entry.kind.to_le_bytes().to_vec();
        entry.word.iter().for_each(|w| bytes.extend(w.to_le_bytes()));
        assert!(c.pages.mapping().write(at, &bytes));
    }

    fn set(c: &Control, which: HeaderIndex, value: u32) {
        c.pages.index(which).unwrap().store(value, SeqCst);
    }

    #[test]
    fn messages_arrive_in_order_across_the_wrap() {
        let mut c = control();
        for round in 0..3 {
            let base = round * RING_ENTRIES / 2;
            for i in 0..RING_ENTRIES / 2 {
                guest_writes(&c, base + i, GuestMessage::Changed { slot: i }.into());
            }
            set(&c, HeaderIndex::GuestTail, base + RING_ENTRIES / 2);
            for i in 0..RING_ENTRIES / 2 {
                assert_eq!(c.recv(), Some(GuestMessage::Changed { slot: i }));
            }
            assert_eq!(c.recv(), None);
        }
        assert_eq!(c.metrics().malformed, 0);
    }

    #[test]
    fn garbage_is_skipped_in_bounded_steps() {
        let mut c = control();
        guest_writes(&c, 200, GuestMessage::Ready.into());
        set(&c, HeaderIndex::GuestTail, 201);
        let mut calls = 0;
        let got = loop {
            calls += 1;
            assert!(calls < 10);
            if let Some(m) = c.recv() {
                break m;
            }
            assert_eq!(c.doorbell.read().unwrap(), 1, "it asks to be called again");
        };
        assert_eq!((got, calls, c.metrics().malformed), (GuestMessage::Ready, 4, 200));
    }

    #[test]
    fn an_impossible_index_loses_the_guest_its_messages_and_nothing_else() {
        let mut c = control();
        set(&c, HeaderIndex::GuestTail, RING_ENTRIES + 1);
        assert_eq!(c.recv(), None);
        assert_eq!(c.metrics().indices_impossible, 1);
        guest_writes(&c, RING_ENTRIES + 1, GuestMessage::Ready.into());
        set(&c, HeaderIndex::GuestTail, RING_ENTRIES + 2);
        assert_eq!(c.recv(), Some(GuestMessage::Ready));
    }

    #[test]
    fn a_full_ring_overflows_and_then_refuses() {
        let mut c = control();
        let message = |slot| HostMessage::SlotFree { slot, incarnation: 1 };
        let room = RING_ENTRIES as usize + OVERFLOW_MESSAGES_MAX;
        for i in 0..room {
            assert!(c.send(message(i as u32 % 64)), "{i}");
        }
        assert!(!c.send(message(0)));
        assert_eq!((c.overflowing(), c.metrics().refused), (OVERFLOW_MESSAGES_MAX, 1));
        set(&c, HeaderIndex::HostHead, 10);
        c.notify();
        assert_eq!(c.overflowing(), OVERFLOW_MESSAGES_MAX - 10);
        set(&c, HeaderIndex::HostHead, u32::MAX);
        assert!(c.send(message(0)), "a lying index is a full ring");
        assert_eq!(c.overflowing(), OVERFLOW_MESSAGES_MAX - 9);
    }

    #[test]
    fn a_waking_guest_is_not_interrupted() {
        let mut c = control();
        assert!(c.send(HostMessage::Unplug { slot: 1, incarnation: 1 }));
        c.notify();
        assert_eq!((c.metrics().interrupts, c.metrics().interrupts_spared), (0, 1));
        set(&c, HeaderIndex::Asleep, 1);
        c.notify();
        assert_eq!(c.metrics().interrupts, 0, "nothing new");
        c.ping(7);
        assert_eq!((c.interrupt.raised(), c.metrics().interrupts), (1, 1));
        assert_eq!(c.pages.counter(HeaderCounter::Ping).unwrap().load(SeqCst), 7);
    }
}
