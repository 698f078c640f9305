//! Attacks on the commit path: what a slice publishes, references, binds and sends.

use crate::guest::{Guest, incarnation};
use core::sync::atomic::Ordering;
use escape_abi::layout::{SLOT_SIZE, SLOTS_MAX};
use escape_abi::message::Flow;
use escape_abi::meta::connection_bit;
use escape_abi::{GuestMessage, LiveRange, SlotMeta, SlotWord};

/// Frames of `never_commits`.
const FLOOD_FRAMES: u32 = 2_000;
/// Reference intervals of `ignores_hold`.
const RESTLESS_TURNS: u32 = 300_000;

/// A range that begins in the slot and ends behind it: the neighbour's bytes.
pub fn live_range_outside(guest: &mut Guest) {
    lie_about_ranges(guest, &[LiveRange { offset: SLOT_SIZE as u32 - 64, len: 128 }]);
}

/// A range whose end does not fit 32 bits.
pub fn live_range_overflow(guest: &mut Guest) {
    lie_about_ranges(guest, &[LiveRange { offset: u32::MAX - 63, len: 128 }]);
}

/// Ranges that are each in the slot, and together larger than it.
pub fn live_range_sum(guest: &mut Guest) {
    lie_about_ranges(guest, &[LiveRange { offset: 0, len: SLOT_SIZE as u32 }; 8]);
}

/// The state is published as that of another incarnation of the slot.
pub fn incarnation_of_another(guest: &mut Guest) {
    let meta = SlotMeta { incarnation: guest.bad.incarnation + 1, ..guest.bad.meta() };
    publish_lie(guest, meta);
}

/// A reference that never ends, with output behind it.
pub fn reference_held(guest: &mut Guest) {
    guest.bad_says(b"first");
    guest.let_the_host_commit();
    guest.bad.get_ref();
    let frame = guest.bad.next_segment(b"never");
    guest.wire.send(&frame);
}

/// Every bit of the slot's word set.
pub fn word_garbage(guest: &mut Guest) {
    guest.bad.word().store(u64::MAX, Ordering::SeqCst);
    let frame = guest.bad.next_segment(b"never");
    guest.wire.send(&frame);
}

/// The generation goes back to a committed one, and output follows that no commit covers.
pub fn generation_back(guest: &mut Guest) {
    for text in [b"one", b"two", b"six"] {
        guest.bad_says(text);
    }
    guest.let_the_host_commit();
    guest.bad.word().store(SlotWord::new(1, 0).0, Ordering::SeqCst);
    let frame = guest.bad.next_segment(b"never");
    guest.wire.send(&frame);
}

/// A frame with bytes that the published state does not know as sent.
pub fn sequence_beyond_state(guest: &mut Guest) {
    guest.bad.get_ref();
    let meta = guest.bad.meta();
    let frame = guest.bad.next_segment(b"never");
    guest.bad.publish(meta);
    guest.bad.put_ref();
    guest.wire.send(&frame);
}

/// A frame that acknowledges bytes that the published state has not received.
pub fn acknowledges_more(guest: &mut Guest) {
    guest.bad.get_ref();
    let mut packet = guest.bad.packet();
    packet.acknowledges += 1000;
    guest.bad.publish(guest.bad.meta());
    guest.bad.put_ref();
    let frame = packet.frame(b"");
    guest.wire.send(&frame);
}

/// A binding for a connection that nobody asked for.
pub fn bind_unseen(guest: &mut Guest) {
    let (first, generation) = guest.lease;
    for nth in 2..6 {
        let flow = Flow { ip: [10, 9, 9, 9], port: 5000 + nth as u16, service_port: guest.params.http_port };
        guest.send(GuestMessage::Bind {
            slot: first + nth,
            incarnation: incarnation(generation, nth),
            flow,
            place: 0,
            serial: 0,
        });
    }
}

/// Bindings to slots that are not this guest's: of another lease, outside the arena, of an older lease.
pub fn bind_unleased(guest: &mut Guest) {
    let flow = guest.bad.flow;
    let fresh = incarnation(guest.lease.1, 50);
    for (slot, incarnation) in [
        (guest.params.n_slots - 1, fresh),
        (SLOTS_MAX - 1, fresh),
        (guest.lease.0 + 5, 1),
        (guest.lease.0 + 5, u64::MAX),
    ] {
        guest.send(GuestMessage::Bind { slot, incarnation, flow, place: 0, serial: 0 });
    }
}

/// The honest slice's connection for another slot, and its slot for another connection.
pub fn bind_twice(guest: &mut Guest) {
    let (first, generation) = guest.lease;
    let (theft, takeover) = (guest.honest.flow, guest.bad.flow);
    let fresh = incarnation(generation, 60);
    guest.send(GuestMessage::Bind { slot: first + 7, incarnation: fresh, flow: theft, place: 0, serial: 0 });
    guest.send(GuestMessage::Bind { slot: guest.honest.slot, incarnation: fresh, flow: takeover, place: 0, serial: 0 });
}

/// Connections for the bad slice that are another slice's, or nobody's, or another client's, or in a place that is taken.
pub fn join_others(guest: &mut Guest) {
    let (slot, incarnation) = (guest.bad.slot, guest.bad.incarnation);
    let unseen = Flow { port: 6000, ..guest.bad.flow };
    let stranger = Flow { ip: [10, 9, 9, 9], ..unseen };
    for (flow, place) in [(guest.honest.flow, 1), (unseen, 0), (unseen, 1), (stranger, 2)] {
        guest.send(GuestMessage::Bind { slot, incarnation, flow, place, serial: 1 });
    }
}

/// The state is published as having a connection of which the host was never told.
pub fn connection_never_bound(guest: &mut Guest) {
    let meta = guest.bad.meta();
    publish_lie(guest, SlotMeta { connections: meta.connections | connection_bit::present(1), ..meta });
}

/// Output without end behind a reference that does not end either.
pub fn never_commits(guest: &mut Guest) {
    guest.bad.get_ref();
    for _ in 0..FLOOD_FRAMES {
        let frame = guest.bad.next_segment(&[0x5a; 1400]);
        guest.wire.send(&frame);
    }
}

/// References taken and given back all the time, whatever the hold says, with output between.
pub fn ignores_hold(guest: &mut Guest) {
    for turn in 0..RESTLESS_TURNS {
        guest.bad.word().fetch_add(1, Ordering::SeqCst);
        guest.bad.publish(guest.bad.meta());
        guest.bad.put_ref();
        if turn % 1000 == 0 {
            let frame = guest.bad.packet().frame(b"");
            guest.wire.send(&frame);
        }
    }
}

fn lie_about_ranges(guest: &mut Guest, ranges: &[LiveRange]) {
    let mut meta = guest.bad.meta();
    for (into, range) in meta.live.iter_mut().zip(ranges) {
        *into = *range;
    }
    publish_lie(guest, meta);
}

/// A whole step, with this published.
fn publish_lie(guest: &mut Guest, meta: SlotMeta) {
    guest.bad.get_ref();
    let frame = guest.bad.next_segment(b"never");
    guest.bad.publish(meta);
    guest.bad.put_ref();
    guest.wire.send(&frame);
}
