//! virtio-net against drivers that lie, with `virtio-queue`'s mock of a driver's rings.
//!
//! (Its `MockSplitQueue` lets the two rings overlap, so they are placed by hand here.)
#![allow(clippy::unwrap_used)]

use super::config::{QUEUE_SIZE_MAX, RECEIVE_QUEUE, TRANSMIT_QUEUE, model};
use super::frame_buf::SEGMENTED_BYTES_MAX;
use super::{FRAME_BYTES_MAX, FrameBuf, Net, RxOutcome};
use crate::devices::virtio::mmio::MmioTransport;
use crate::devices::virtio::mmio::tests::bring_up;
use crate::interrupts::Interrupt;
use std::sync::Arc;
use virtio_bindings::bindings::virtio_net::{VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_HOST_TSO4};
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::{Descriptor, VirtqUsedElem};
use virtio_queue::mock::{AvailRing, DescriptorTable, UsedRing};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const RAM: u64 = 0x10_0000;
const QUEUE_SIZE: u16 = 16;
const RX_RING: u64 = 0x1000;
const TX_RING: u64 = 0x4000;
/// Offsets of the two rings behind the descriptor table.
const AVAIL: u64 = 0x400;
const USED: u64 = 0x800;
const BUFFERS: u64 = 0x2_0000;
const VERSION_1: u64 = 1 << 32;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const BOTH_CSUM: u64 = 1 << VIRTIO_NET_F_CSUM | 1 << VIRTIO_NET_F_GUEST_CSUM;
const TSO: u64 = 1 << VIRTIO_NET_F_HOST_TSO4;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const NEEDS_RESET: u32 = 64;

const RINGS: [(u64, u64, u64); 2] =
    [(RX_RING, RX_RING + AVAIL, RX_RING + USED), (TX_RING, TX_RING + AVAIL, TX_RING + USED)];

/// A guest's memory and a device on it.
struct Rig {
    memory: GuestMemoryMmap,
    transport: Arc<MmioTransport>,
    net: Net,
    interrupt: Interrupt,
    buf: FrameBuf,
}

/// One driver-made queue: descriptors are written as they are given, heads are made available one by one.
struct Driver<'m> {
    memory: &'m GuestMemoryMmap,
    table: DescriptorTable<'m, GuestMemoryMmap>,
    avail: AvailRing<'m, GuestMemoryMmap>,
    used: UsedRing<'m, GuestMemoryMmap>,
    available: u16,
}

/// What a chain claims, and how it is written.
type Lie = (&'static str, fn(&Driver<'_>));

impl Rig {
    fn new(features: u64) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap();
        let interrupt = Interrupt::new().unwrap();
        let device = model([2, 0, 0, 0, 0, 1], true);
        let transport = Arc::new(MmioTransport::new(device, memory.clone(), interrupt.clone()).unwrap());
        bring_up(&transport, VERSION_1 | features, u32::from(QUEUE_SIZE), &RINGS);
        let net = Net::new(Arc::clone(&transport), None, None);
        Self { memory, transport, net, interrupt, buf: FrameBuf::new() }
    }

    fn driver(memory: &GuestMemoryMmap, queue: usize) -> Driver<'_> {
        let at = if queue == RECEIVE_QUEUE { RX_RING } else { TX_RING };
        // The mocks zero their rings when they are made, so they are made before the device has used anything.
        Driver {
            memory,
            table: DescriptorTable::new(memory, GuestAddress(at), QUEUE_SIZE),
            avail: AvailRing::new(memory, GuestAddress(at + AVAIL), QUEUE_SIZE),
            used: UsedRing::new(memory, GuestAddress(at + USED), QUEUE_SIZE),
            available: 0,
        }
    }

    fn status(&self) -> u32 {
        let mut b = [0; 4];
        self.transport.read(0x70, &mut b);
        u32::from_le_bytes(b)
    }
}

impl Driver<'_> {
    fn descriptor(&self, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        self.table.store(index, RawDescriptor::from(Descriptor::new(address, len, flags, next))).unwrap();
    }

    fn offer(&mut self, head: u16) {
        self.avail.ring().ref_at(usize::from(self.available % QUEUE_SIZE)).unwrap().store(head);
        self.available = self.available.wrapping_add(1);
        self.avail.idx().store(self.available);
    }

    fn used(&self) -> Vec<(u32, u32)> {
        let count = self.used.idx().load();
        let entry = |i: u16| {
            let e: VirtqUsedElem = self.used.ring().ref_at(usize::from(i % QUEUE_SIZE)).unwrap().load();
            (e.id(), e.len())
        };
        (0..count).map(entry).collect()
    }

    /// Offers a frame in one buffer.
    fn send(&mut self, head: u16, frame: &[u8]) {
        let at = BUFFERS + u64::from(head) * 0x1000;
        self.memory.write_slice(frame, GuestAddress(at)).unwrap();
        self.descriptor(head, at, frame.len() as u32, 0, 0);
        self.offer(head);
    }
}

fn frame(payload: usize, fill: u8) -> Vec<u8> {
    let mut f = vec![0; 12];
    f.extend(vec![fill; 14 + payload]);
    f
}

#[test]
fn frames_are_copied_whole_and_buffers_returned_at_once() {
    let mut rig = Rig::new(0);
    let memory = rig.memory.clone();
    let mut driver = Rig::driver(&memory, TRANSMIT_QUEUE);
    // One frame in one buffer, one scattered over three (header alone, an empty one, the rest).
    driver.send(0, &frame(100, 7));
    memory.write_slice(&frame(50, 9), GuestAddress(BUFFERS + 0x8000)).unwrap();
    driver.descriptor(1, BUFFERS + 0x8000, 12, NEXT, 2);
    driver.descriptor(2, BUFFERS, 0, NEXT, 3);
    driver.descriptor(3, BUFFERS + 0x800c, 64, 0, 0);
    driver.offer(1);
    for want in [frame(100, 7), frame(50, 9)] {
        assert_eq!(rig.net.take_tx(&mut rig.buf).unwrap().len, want.len());
        assert_eq!(&rig.buf[..], &want[..]);
    }
    assert_eq!(driver.used(), [(0, 0), (1, 0)]);
    assert!(rig.net.take_tx(&mut rig.buf).is_none());
    assert_eq!(rig.net.metrics().tx_frames, 2);
    // What the guest changes afterwards is not what was taken.
    memory.write_slice(&[0xff; 64], GuestAddress(BUFFERS)).unwrap();
    assert_eq!(&rig.buf[..], &frame(50, 9)[..]);
}

#[test]
fn chains_that_are_no_frames_are_returned_counted_and_skipped() {
    let lies: [Lie; 13] = [
        ("a descriptor that names itself", |d| d.descriptor(0, BUFFERS, 26, NEXT, 0)),
        ("a loop of two", |d| {
            d.descriptor(0, BUFFERS, 1, NEXT, 1);
            d.descriptor(1, BUFFERS, 1, NEXT, 0);
        }),
        ("a loop of empty ones", |d| d.descriptor(0, BUFFERS, 0, NEXT, 0)),
        ("a successor outside the table", |d| d.descriptor(0, BUFFERS, 26, NEXT, QUEUE_SIZE)),
        ("nothing", |d| d.descriptor(0, BUFFERS, 0, 0, 0)),
        ("shorter than its headers", |d| d.descriptor(0, BUFFERS, 25, 0, 0)),
        ("too long", |d| d.descriptor(0, BUFFERS, FRAME_BYTES_MAX as u32 + 1, 0, 0)),
        ("2^32 - 1 bytes", |d| d.descriptor(0, BUFFERS, u32::MAX, 0, 0)),
        ("2^32 bytes in two", |d| {
            d.descriptor(0, BUFFERS, 26, NEXT, 1);
            d.descriptor(1, BUFFERS, u32::MAX, 0, 0);
        }),
        ("outside RAM", |d| d.descriptor(0, RAM, 100, 0, 0)),
        ("across the end of RAM", |d| d.descriptor(0, RAM - 50, 100, 0, 0)),
        ("at the end of all addresses", |d| d.descriptor(0, u64::MAX - 10, 100, 0, 0)),
        ("for the device to write", |d| d.descriptor(0, BUFFERS, 100, WRITE, 0)),
    ];
    for features in [0, EVENT_IDX] {
        for (what, lie) in lies {
            let mut rig = Rig::new(features);
            let memory = rig.memory.clone();
            let mut driver = Rig::driver(&memory, TRANSMIT_QUEUE);
            lie(&driver);
            driver.offer(0);
            driver.send(5, &frame(60, 1));
            assert_eq!(rig.net.take_tx(&mut rig.buf).map(|f| f.len), Some(86), "{what}: the next one is good");
            assert_eq!(driver.used(), [(0, 0), (5, 0)], "{what}");
            let m = rig.net.metrics();
            assert_eq!((m.tx_chains_malformed + m.tx_headers_refused, m.tx_frames), (1, 1), "{what}");
            assert_eq!(rig.status() & NEEDS_RESET, 0, "{what}: the queue itself is sound");
        }
    }
}

/// As long as the longest packet if that was negotiated, and not a byte longer.
#[test]
fn frames_to_be_segmented_are_bounded_and_only_for_who_negotiated_them() {
    let mut frame = frame(SEGMENTED_BYTES_MAX - 26, 7);
    frame[..12].copy_from_slice(&[1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
    for (features, longer, good) in
        [(BOTH_CSUM | TSO, 0, true), (BOTH_CSUM | TSO, 1, false), (BOTH_CSUM, 0, false), (TSO, 0, false)]
    {
        let mut rig = Rig::new(features);
        let memory = rig.memory.clone();
        let mut driver = Rig::driver(&memory, TRANSMIT_QUEUE);
        memory.write_slice(&frame, GuestAddress(BUFFERS)).unwrap();
        driver.descriptor(0, BUFFERS, 1_000, NEXT, 1);
        driver.descriptor(1, BUFFERS + 1_000, frame.len() as u32 - 1_000 + longer, 0, 0);
        driver.offer(0);
        let taken = rig.net.take_tx(&mut rig.buf).map(|f| f.len);
        assert_eq!(taken, good.then_some(SEGMENTED_BYTES_MAX), "{features:#x}, {longer} more");
        assert_eq!(driver.used(), [(0, 0)]);
        let m = rig.net.metrics();
        assert_eq!((m.tx_segmented, m.tx_frames), (u64::from(good), u64::from(good)));
        if good {
            assert_eq!(rig.buf[12..], frame[12..]);
        }
    }
}

#[test]
fn indirect_tables_are_bounded_too() {
    let table = BUFFERS + 0x8000;
    let write = |m: &GuestMemoryMmap, i: u64, d: Descriptor| {
        m.write_obj(RawDescriptor::from(d), GuestAddress(table + 16 * i)).unwrap();
    };
    let run = |entries: u32, fill: &dyn Fn(&GuestMemoryMmap)| {
        let mut rig = Rig::new(0);
        let memory = rig.memory.clone();
        let mut driver = Rig::driver(&memory, TRANSMIT_QUEUE);
        fill(&memory);
        driver.descriptor(0, table, entries, INDIRECT, 0);
        driver.offer(0);
        let got = rig.net.take_tx(&mut rig.buf).map(|f| f.len);
        assert_eq!(driver.used(), [(0, 0)]);
        got
    };
    let good = |m: &GuestMemoryMmap| {
        write(m, 0, Descriptor::new(BUFFERS, 12, NEXT, 1));
        write(m, 1, Descriptor::new(BUFFERS, 60, 0, 0));
    };
    assert_eq!(run(32, &good), Some(72));
    assert_eq!(run(31, &good), None, "not a whole number of descriptors");
    assert_eq!(run(16, &good), None, "the successor lies outside the table");
    assert_eq!(run(0, &good), None, "no table");
    assert_eq!(run(!15, &good), None, "a table of 4 GiB");
    let nested = |m: &GuestMemoryMmap| write(m, 0, Descriptor::new(table, 16, INDIRECT, 0));
    assert_eq!(run(16, &nested), None);
    let circle = |m: &GuestMemoryMmap| write(m, 0, Descriptor::new(BUFFERS, 1, NEXT, 0));
    assert_eq!(run(16 * 60_000, &circle), None, "a circle in a large table ends early");
}

#[test]
fn indices_that_make_no_sense_end_the_device_until_it_is_reset() {
    for (jump, head) in [(QUEUE_SIZE + 1, 0), (0x8000, 0), (1, QUEUE_SIZE), (1, u16::MAX)] {
        let mut rig = Rig::new(0);
        let memory = rig.memory.clone();
        let driver = Rig::driver(&memory, TRANSMIT_QUEUE);
        driver.descriptor(0, BUFFERS, 60, 0, 0);
        driver.avail.ring().ref_at(0).unwrap().store(head);
        driver.avail.idx().store(jump);
        assert!(rig.net.take_tx(&mut rig.buf).is_none());
        assert_ne!(rig.status() & NEEDS_RESET, 0, "{jump} {head}");
        assert_eq!((rig.interrupt.raised(), rig.net.metrics().queues_broken), (1, 1));
        // Nothing is touched any more, in either direction, until the driver starts again.
        assert!(rig.net.take_tx(&mut rig.buf).is_none());
        assert_eq!(rig.net.push_rx(&frame(60, 1)), RxOutcome::NotReady);
        let mut driver = Rig::driver(&memory, TRANSMIT_QUEUE);
        bring_up(&rig.transport, VERSION_1, u32::from(QUEUE_SIZE), &RINGS);
        driver.send(1, &frame(60, 2));
        assert!(rig.net.take_tx(&mut rig.buf).is_some());
    }
}

#[test]
fn a_flood_of_malformed_chains_leaves_others_their_turn() {
    let mut rig = Rig::new(0);
    let memory = rig.memory.clone();
    let mut driver = Rig::driver(&memory, TRANSMIT_QUEUE);
    driver.descriptor(0, RAM, 100, 0, 0);
    for _ in 0..QUEUE_SIZE {
        driver.offer(0);
    }
    assert!(rig.net.take_tx(&mut rig.buf).is_none());
    assert_eq!(rig.net.metrics().tx_chains_malformed, u64::from(QUEUE_SIZE));
    assert!(usize::from(QUEUE_SIZE_MAX) > 64, "a full-size ring of garbage takes several calls");
}

#[test]
fn headers_are_checked_against_what_was_negotiated() {
    let mut unfinished = frame(60, 1);
    (unfinished[0], unfinished[6], unfinished[8]) = (1, 34, 16);
    for (features, want) in [(BOTH_CSUM, true), (0, false)] {
        let mut rig = Rig::new(features);
        let memory = rig.memory.clone();
        let mut driver = Rig::driver(&memory, TRANSMIT_QUEUE);
        driver.send(0, &unfinished);
        assert_eq!(rig.net.take_tx(&mut rig.buf).is_some(), want);
        assert_eq!(rig.net.metrics().tx_headers_refused, u64::from(!want));
        assert_eq!(driver.used(), [(0, 0)]);
    }
}

#[test]
fn received_frames_land_in_the_guest_with_one_interrupt_per_batch() {
    let mut rig = Rig::new(BOTH_CSUM);
    let memory = rig.memory.clone();
    let mut driver = Rig::driver(&memory, RECEIVE_QUEUE);
    for i in 0..3 {
        driver.descriptor(i, BUFFERS + u64::from(i) * 0x1000, 2048, WRITE, 0);
        driver.offer(i);
    }
    for i in 0..3 {
        assert_eq!(rig.net.push_rx(&frame(100, i)), RxOutcome::Done);
    }
    assert_eq!(rig.net.push_rx(&frame(100, 3)), RxOutcome::NoBuffer);
    assert_eq!(rig.interrupt.raised(), 0);
    rig.net.flush_rx();
    rig.net.flush_rx();
    assert_eq!(rig.interrupt.raised(), 1);
    assert_eq!(driver.used(), [(0, 126), (1, 126), (2, 126)]);
    let mut got = [0; 126];
    memory.read_slice(&mut got, GuestAddress(BUFFERS + 0x1000)).unwrap();
    assert_eq!(got[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "num_buffers is 1");
    assert_eq!(got[12..], frame(100, 1)[12..]);
    // With a new buffer it goes on.
    driver.offer(0);
    assert_eq!(rig.net.push_rx(&frame(100, 3)), RxOutcome::Done);
}

#[test]
fn interrupts_that_the_driver_does_not_want_are_not_raised() {
    // By flag.
    let mut rig = Rig::new(0);
    let memory = rig.memory.clone();
    let mut driver = Rig::driver(&memory, RECEIVE_QUEUE);
    memory.write_obj(1u16, GuestAddress(RX_RING + AVAIL)).unwrap();
    driver.descriptor(0, BUFFERS, 2048, WRITE, 0);
    driver.offer(0);
    assert_eq!(rig.net.push_rx(&frame(60, 1)), RxOutcome::Done);
    rig.net.flush_rx();
    assert_eq!((rig.interrupt.raised(), rig.net.metrics().interrupts_suppressed), (0, 1));

    // By event index: only when the third buffer is used.
    let mut rig = Rig::new(EVENT_IDX);
    let memory = rig.memory.clone();
    let mut driver = Rig::driver(&memory, RECEIVE_QUEUE);
    memory.write_obj(2u16, GuestAddress(RX_RING + AVAIL + 4 + 2 * u64::from(QUEUE_SIZE))).unwrap();
    driver.descriptor(0, BUFFERS, 2048, WRITE, 0);
    for want in [0, 0, 1, 0] {
        driver.offer(0);
        assert_eq!(rig.net.push_rx(&frame(60, 1)), RxOutcome::Done);
        rig.net.flush_rx();
        assert_eq!(rig.interrupt.raised(), want);
    }
}

#[test]
fn bad_receive_buffers_are_skipped() {
    let bad: [Lie; 5] = [
        ("readable", |d| d.descriptor(0, BUFFERS, 2048, 0, 0)),
        ("too small", |d| d.descriptor(0, BUFFERS, 50, WRITE, 0)),
        ("outside RAM", |d| d.descriptor(0, RAM - 10, 2048, WRITE, 0)),
        ("at the end of all addresses", |d| d.descriptor(0, u64::MAX - 4, 2048, WRITE, 0)),
        ("endless", |d| d.descriptor(0, BUFFERS, 0, NEXT | WRITE, 0)),
    ];
    for (what, lie) in bad {
        let mut rig = Rig::new(0);
        let memory = rig.memory.clone();
        let mut driver = Rig::driver(&memory, RECEIVE_QUEUE);
        lie(&driver);
        driver.offer(0);
        driver.descriptor(1, BUFFERS + 0x1000, 2048, WRITE, 0);
        driver.offer(1);
        assert_eq!(rig.net.push_rx(&frame(100, 5)), RxOutcome::Done, "{what}");
        assert_eq!(driver.used(), [(0, 0), (1, 126)], "{what}");
        assert_eq!(rig.net.metrics().rx_chains_malformed, 1, "{what}");
    }
}

#[test]
fn a_guest_that_takes_no_unfinished_checksums_gets_finished_ones() {
    let mut unfinished = frame(60, 0);
    (unfinished[0], unfinished[6], unfinished[8]) = (1, 34, 16);
    let mut rig = Rig::new(0);
    let memory = rig.memory.clone();
    let mut driver = Rig::driver(&memory, RECEIVE_QUEUE);
    driver.descriptor(0, BUFFERS, 2048, WRITE, 0);
    driver.offer(0);
    assert_eq!(rig.net.push_rx(&unfinished), RxOutcome::Done);
    let mut got = [0; 86];
    memory.read_slice(&mut got, GuestAddress(BUFFERS)).unwrap();
    assert_eq!(got[0], 0);
    assert_eq!(got[12 + 34 + 16..12 + 34 + 18], [0xff, 0xff], "the sum of zeroes");
    assert_eq!(rig.net.metrics().rx_checksums_finished, 1);
}

#[test]
fn frames_of_impossible_lengths_are_dropped() {
    let mut rig = Rig::new(0);
    for len in [0, 12, 25, FRAME_BYTES_MAX + 1, 1 << 20] {
        assert_eq!(rig.net.push_rx(&vec![0; len]), RxOutcome::BadLength, "{len}");
    }
    let mut segmented = frame(60, 0);
    segmented[1] = 1;
    assert_eq!(rig.net.push_rx(&segmented), RxOutcome::BadHeader);
}

#[test]
fn an_idle_queue_asks_for_notification_unless_busy() {
    let flags = |rig: &Rig| rig.memory.read_obj::<u16>(GuestAddress(TX_RING + USED)).unwrap();
    let mut rig = Rig::new(0);
    rig.net.set_busy_poll(true);
    assert!(rig.net.take_tx(&mut rig.buf).is_none());
    assert_eq!(flags(&rig), 1, "busy: no kicks wanted");
    rig.net.set_busy_poll(false);
    assert!(rig.net.take_tx(&mut rig.buf).is_none());
    assert_eq!(flags(&rig), 0, "before sleeping they are");
}

/// Random rings, random descriptors: nothing panics, and no frame is longer than a frame can be.
#[test]
fn random_rings_do_no_harm() {
    let seed = std::env::var("VIRTIO_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0xcafe_u64);
    println!("VIRTIO_SEED={seed} replays this");
    let mut x = seed;
    let mut random = move || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 24) as u32
    };
    for features in [0, EVENT_IDX, BOTH_CSUM | EVENT_IDX] {
        let mut rig = Rig::new(features);
        for round in 0..3_000u64 {
            let rings = if round % 2 == 0 { TX_RING } else { RX_RING };
            // Mostly plausible descriptors, sometimes noise over all of the ring.
            for i in 0..u64::from(QUEUE_SIZE) {
                let near = u64::from(random()) % (RAM + 0x1000);
                let address = if random() % 16 == 0 { u64::MAX - near } else { near };
                let len = if random() % 8 == 0 { random() } else { random() % 2000 };
                let d = Descriptor::new(address, len, (random() % 8) as u16, (random() % 20) as u16);
                rig.memory.write_obj(RawDescriptor::from(d), GuestAddress(rings + 16 * i)).unwrap();
            }
            let noise = rings + AVAIL + u64::from(random()) % 40;
            rig.memory.write_obj(random() as u16, GuestAddress(noise)).unwrap();
            for _ in 0..4 {
                if let Some(f) = rig.net.take_tx(&mut rig.buf) {
                    assert!((26..=FRAME_BYTES_MAX).contains(&f.len));
                }
                rig.net.push_rx(&frame((random() % 1500) as usize, 1));
            }
            rig.net.flush_rx();
            if rig.status() & NEEDS_RESET != 0 {
                let fresh = Rig::new(features);
                (rig.transport, rig.net, rig.memory) = (fresh.transport, fresh.net, fresh.memory);
            }
        }
    }
}
