//! Attacks on the control rings.

use crate::guest::{Guest, ring_doorbell};
use crate::random::Random;
use core::sync::atomic::Ordering;
use escape_abi::control::RING_ENTRIES;
use escape_abi::layout::SLOTS_MAX;
use escape_abi::{GuestMessage, RingEntry};

/// Entries of `garbage` that are no messages.
const GARBAGE: u64 = 300;
/// Messages of `flood`.
const FLOOD: usize = 100_000;

/// Entries of kinds that do not exist, and of kinds that do with fields that cannot be.
pub fn garbage(guest: &mut Guest) {
    let mut random = Random::new(1);
    for _ in 0..GARBAGE {
        let entry = RingEntry { kind: random.next() | 1 << 40, word: core::array::from_fn(|_| random.next()) };
        send_raw(guest, entry);
    }
    // A slot that no arena has, a status that is no number of 32 bits.
    for entry in [
        RingEntry { kind: 2, word: [u64::from(SLOTS_MAX), 1, 1, 0, 0, 0, 0] },
        RingEntry { kind: 4, word: [u64::MAX; 7] },
        RingEntry { kind: 5, word: [1, 1, u64::MAX, 0, 0, 0, 0] },
    ] {
        send_raw(guest, entry);
    }
    ring_doorbell();
}

/// The producer index jumps further than the ring is long, again and again.
pub fn index(guest: &mut Guest) {
    let header = guest.header();
    // What the host has not taken yet is lost by the jump: the bindings must not be.
    while header.guest_head.0.load(Ordering::Acquire) != header.guest_tail.0.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
    for jump in [RING_ENTRIES + 1, u32::MAX / 2, 3 * RING_ENTRIES] {
        let tail = header.guest_tail.0.load(Ordering::Relaxed).wrapping_add(jump);
        header.guest_tail.0.store(tail, Ordering::Release);
        ring_doorbell();
        while header.guest_head.0.load(Ordering::Acquire) != tail {
            core::hint::spin_loop();
        }
    }
    guest.attach_again();
}

/// Claims about slices that are not there: closed, plugged, unplugged, poisoned, changed.
pub fn claims(guest: &mut Guest) {
    let other_slots = [guest.lease.0 + 40, guest.params.n_slots - 1, guest.params.n_slots, SLOTS_MAX - 1];
    for slot in other_slots {
        for incarnation in [0, 1, u64::MAX] {
            guest.send(GuestMessage::Close { slot, incarnation });
            guest.send(GuestMessage::Plugged { slot, incarnation, status: 0 });
            guest.send(GuestMessage::Unplugged { slot, incarnation });
            guest.send(GuestMessage::Poisoned { slot, incarnation, cause: u32::MAX });
        }
        guest.send(GuestMessage::Changed { slot });
    }
    // The honest slice's slot with another incarnation: not the honest slice.
    let (slot, incarnation) = (guest.honest.slot, guest.honest.incarnation + 7);
    guest.send(GuestMessage::Close { slot, incarnation });
    guest.send(GuestMessage::Poisoned { slot, incarnation, cause: 0 });
}

/// As many messages as the host takes, with a doorbell each.
pub fn flood(guest: &mut Guest) {
    // Not the bad slice's slot: it has published nothing, and would be given up for that.
    let slots = [guest.honest.slot, guest.bad.slot + 1, guest.params.n_slots - 1];
    for slot in slots.into_iter().cycle().take(FLOOD) {
        guest.send(GuestMessage::Changed { slot });
    }
}

/// The consumer index of the host's ring runs ahead of its producer.
pub fn head(guest: &mut Guest) {
    let header = guest.header();
    let lie = header.host_tail.0.load(Ordering::Acquire).wrapping_add(17);
    header.host_head.0.store(lie, Ordering::Release);
}

fn send_raw(guest: &mut Guest, entry: RingEntry) {
    while !guest.control.guest_ring.send_raw(entry) {
        ring_doorbell();
        core::hint::spin_loop();
    }
}
