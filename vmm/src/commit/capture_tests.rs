//! Tests of capture, one thread: quiescence, holds, lies, hanging references.

#![allow(clippy::unwrap_used)]

use super::super::slot_image::Role;
use super::super::test_frames::flow;
use super::super::test_memory::{TestMemory, meta};
use super::*;
use escape_abi::meta::{connection_bit, meta_flag};
use escape_abi::{ConnectionNumbers, SlotMeta};
use std::cell::Cell;

const SLICE: SliceId = SliceId { slot: 0, incarnation: 7 };

struct Bench {
    memory: TestMemory,
    images: ImageStore,
    capturer: Capturer,
    now: Cell<u64>,
}

impl Bench {
    fn new() -> Self {
        let mut images = ImageStore::new(1).unwrap();
        images.create(SLICE, flow(1), Role::Shadow).unwrap();
        let capturer = Capturer::new(CaptureLimits::default());
        Self { memory: TestMemory::new(1), images, capturer, now: Cell::new(0) }
    }

    /// Each look at the clock is 1 µs later.
    fn capture(&mut self) -> Result<Capture<'_>, CaptureError> {
        let now = &self.now;
        self.capturer.capture(SLICE, &self.memory, &mut self.images, &|| {
            now.set(now.get() + 1);
            now.get()
        })
    }

    fn publish(&self, live: &[(u32, u32)]) -> u64 {
        assert!(self.memory.get_ref(0));
        self.memory.put_ref(0, &meta(7, live))
    }
}

#[test]
fn captures_each_generation_once() {
    let mut b = Bench::new();
    b.memory.store(0, 64, 5);
    assert_eq!(b.publish(&[(0, 128)]), 1);
    let Ok(Capture::Captured(captured)) = b.capture() else { panic!("not captured") };
    assert_eq!((captured.coverage.generation, captured.full, captured.closed, captured.lines), (1, true, false, 2));
    assert!(matches!(b.capture(), Ok(Capture::Unchanged { generation: 1 })));
    assert!(b.memory.get_ref(0));
    let mut last = meta(7, &[(0, 128)]);
    (last.flags, last.numbers[0]) = (meta_flag::CLOSED | 0x80, ConnectionNumbers { rcv_nxt: 3, snd_nxt: 4 });
    b.memory.put_ref(0, &last);
    let Ok(Capture::Captured(captured)) = b.capture() else { panic!("not captured") };
    assert_eq!((captured.full, captured.closed, captured.lines), (false, true, 0));
    assert_eq!(captured.coverage.connections.first().map(|c| (c.rcv_nxt, c.snd_nxt)), Some((3, 4)));
    assert!(!b.capturer.take_kick());
}

/// Metadata with connections in the first two places; of the second, which use of its place it is.
fn two_connections(bits: u32, serial: u16) -> SlotMeta {
    let mut published = meta(7, &[(0, 64)]);
    published.connections |= bits;
    published.serials[1] = serial;
    published
}

#[test]
fn a_connection_is_captured_when_its_binding_is_known_and_until_it_is_left() {
    const PRESENT: u32 = connection_bit::present(1);
    const ENDED: u32 = PRESENT | connection_bit::ended(1);
    let mut b = Bench::new();
    let publish = |b: &Bench, bits, serial| {
        assert!(b.memory.get_ref(0));
        b.memory.put_ref(0, &two_connections(bits, serial));
    };
    /// Client ports of the connections that were captured, and whether they have ended.
    fn captured(b: &mut Bench) -> Option<Vec<(u16, bool)>> {
        match b.capture().unwrap() {
            Capture::Captured(c) => Some(c.coverage.connections.iter().map(|(_, c)| (c.flow.port, c.ended)).collect()),
            Capture::Unchanged { .. } | Capture::Referenced => None,
        }
    }
    let (alone, first) = (Some(vec![(1, false)]), (1, false));
    // Its binding is on its way: the slot is held until it is here.
    publish(&b, PRESENT, 1);
    assert_eq!(captured(&mut b), None);
    assert!(b.images.add_flow(SLICE, 1, flow(2), 1) && !b.images.add_flow(SLICE, 1, flow(3), 1));
    assert_eq!(captured(&mut b), Some(vec![first, (2, false)]));
    assert!(!b.memory.held(0));
    // It ends; the guest publishes it until it has heard that it may go.
    publish(&b, ENDED, 1);
    assert_eq!(captured(&mut b), Some(vec![first, (2, true)]));
    b.images.leave_place(SLICE, 1, 1);
    publish(&b, ENDED, 1);
    assert_eq!(captured(&mut b), alone);
    // Another one in the same place is another one, whatever is still to be heard of it.
    publish(&b, PRESENT, 2);
    assert_eq!(captured(&mut b), None);
    assert!(b.images.add_flow(SLICE, 1, flow(3), 2));
    assert_eq!(captured(&mut b), Some(vec![first, (3, false)]));
    // A use of the place that was never told, under the name of the last one's flow.
    publish(&b, PRESENT, 3);
    assert_eq!(captured(&mut b), None);
    // It was refused: it says nothing until the guest has heard so.
    b.images.leave_place(SLICE, 1, 3);
    assert_eq!(captured(&mut b), alone);
}

#[test]
fn a_referenced_slot_is_held_until_it_is_caught() {
    let mut b = Bench::new();
    b.publish(&[(0, 64)]);
    assert!(b.memory.get_ref(0));
    assert!(matches!(b.capture(), Ok(Capture::Referenced)));
    assert!(b.memory.held(0) && !b.capturer.take_kick());
    assert!(matches!(b.capture(), Ok(Capture::Referenced)));
    b.memory.put_ref(0, &meta(7, &[(0, 64)]));
    assert!(!b.memory.get_ref(0), "the hold keeps the guest out");
    let Ok(Capture::Captured(captured)) = b.capture() else { panic!("not captured") };
    assert_eq!(captured.coverage.generation, 2);
    assert!(!b.memory.held(0) && b.capturer.take_kick() && !b.capturer.take_kick());
    assert!(b.memory.get_ref(0));
    assert_eq!(b.capturer.metrics().holds, 1);
}

#[test]
fn a_reference_that_does_not_end_hangs() {
    let mut b = Bench::new();
    assert!(b.memory.get_ref(0));
    for _ in 0..500 {
        assert!(matches!(b.capture(), Ok(Capture::Referenced)));
        b.now.set(b.now.get() + 999);
    }
    b.now.set(b.now.get() + 1_000);
    match b.capture() {
        Err(CaptureError::Hanging { slice, generation, age_us }) => {
            assert_eq!((slice, generation), (SLICE, 0));
            assert!((500_001..502_000).contains(&age_us), "{age_us}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!b.memory.held(0));
}

#[test]
fn a_pause_of_the_whole_process_does_not_age_a_reference() {
    let mut b = Bench::new();
    assert!(b.memory.get_ref(0));
    for _ in 0..9 {
        assert!(matches!(b.capture(), Ok(Capture::Referenced)));
        b.now.set(b.now.get() + 5_000_000);
    }
    b.memory.put_ref(0, &meta(7, &[(0, 64)]));
    assert!(matches!(b.capture(), Ok(Capture::Captured(_))));
}

#[test]
fn a_slice_that_moves_on_does_not_hang() {
    let mut b = Bench::new();
    // A second layer takes its reference before the first gives up its own, so that the word never rests.
    assert!(b.memory.get_ref(0));
    for _ in 0..10 {
        assert!(matches!(b.capture(), Ok(Capture::Referenced)));
        b.now.set(b.now.get() + 30_000);
        let generation = b.memory.word(0).unwrap().generation();
        b.memory.set_word(0, SlotWord::new(generation + 1, 1));
    }
    b.capturer.forget(SLICE, &b.memory);
    assert!(!b.memory.held(0) && b.capturer.take_kick());
}

#[test]
fn lies_name_slot_and_range() {
    let mut b = Bench::new();
    b.publish(&[(0, 64), (0x3_ffff, 2)]);
    match b.capture() {
        Err(e @ CaptureError::LyingRange { .. }) => {
            assert_eq!(
                e.to_string(),
                "slice 0:0.7: live range 1 (offset 0x3ffff, 2 bytes) reaches out of the slot of 0x40000 bytes"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(b.memory.get_ref(0));
    b.memory.put_ref(0, &meta(8, &[(0, 64)]));
    assert!(matches!(b.capture(), Err(CaptureError::Incarnation { published: 8, .. })));
    assert_eq!(b.capturer.metrics().lies, 2);
    let nowhere = SliceId { slot: 9, incarnation: 7 };
    let result = b.capturer.capture(nowhere, &b.memory, &mut b.images, &|| 0);
    assert!(matches!(result, Err(CaptureError::NotMapped { .. })));
}

#[test]
fn undeclared_bytes_of_live_lines_are_zero() {
    let mut b = Bench::new();
    b.memory.write(0, 0, &[0xaa; 512]);
    // Two ranges in one line, one over an edge; earlier staging content must not shine through either.
    b.publish(&[(0, 512)]);
    assert!(b.capture().is_ok());
    b.publish(&[(10, 5), (20, 5), (100, 100)]);
    assert!(b.capture().is_ok());
    let image = b.images.bytes(SLICE).unwrap();
    for (n, byte) in image[..256].iter().enumerate() {
        let live = (10..15).contains(&n) || (20..25).contains(&n) || (100..200).contains(&n);
        assert_eq!(*byte, if live { 0xaa } else { 0 }, "byte {n}");
    }
}

/// A slice that is to move takes no reference from the freeze on, whatever is captured meanwhile.
#[test]
fn a_frozen_slot_stays_held_until_it_is_thawed() {
    let mut b = Bench::new();
    b.memory.store(0, 0, 5);
    b.publish(&[(0, 64)]);
    assert!(b.memory.get_ref(0));
    b.capturer.freeze(SLICE, &b.memory);
    assert!(matches!(b.capture(), Ok(Capture::Referenced)), "the reference that was there may end");
    b.memory.put_ref(0, &meta(7, &[(0, 64)]));
    assert!(matches!(b.capture(), Ok(Capture::Captured(_))));
    assert!(matches!(b.capture(), Ok(Capture::Unchanged { generation: 2 })));
    assert!(b.capturer.is_frozen(SLICE) && !b.memory.get_ref(0), "a capture does not end the freeze");
    assert!(!b.capturer.take_kick());
    b.capturer.thaw(SliceId { incarnation: 8, ..SLICE }, &b.memory);
    assert!(!b.memory.get_ref(0), "another slice's thaw is not this one's");
    b.capturer.thaw(SLICE, &b.memory);
    assert!(b.capturer.take_kick() && b.memory.get_ref(0));
    b.memory.put_ref(0, &meta(7, &[(0, 64)]));
    b.capturer.freeze(SLICE, &b.memory);
    b.capturer.forget(SLICE, &b.memory);
    assert!(!b.capturer.is_frozen(SLICE) && b.memory.get_ref(0), "its slot's next slice is not frozen");
}
