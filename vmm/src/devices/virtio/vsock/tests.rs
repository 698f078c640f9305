//! A driver made by hand, and programs on the host.

#![allow(clippy::unwrap_used)]

use super::config::{RECEIVE_QUEUE, TRANSMIT_QUEUE, VsockConfig, model};
use super::connection::ROOM_BYTES;
use super::device::Vsock;
use super::error::VsockError;
use super::packet::{HEAD_BYTES, Head, NO_MORE_RECEIVED, NO_MORE_SENT, Op, STREAM};
use crate::devices::virtio::mmio::MmioTransport;
use crate::devices::virtio::mmio::tests::bring_up;
use crate::interrupts::Interrupt;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const CID: u32 = 7;
const QUEUE: u16 = 16;
const RECEIVE: u64 = 0x1000;
const TRANSMIT: u64 = 0x4000;
const SENT_AT: u64 = 0x1_0000;
/// One buffer per descriptor of the receive queue.
const BUFFERS_AT: u64 = 0x4_0000;
const BUFFER_BYTES: u64 = 0x1000;

struct Rig {
    memory: GuestMemoryMmap,
    transport: Arc<MmioTransport>,
    vsock: Vsock,
    path: PathBuf,
    /// Chains offered, and how many of those to receive in were looked at.
    sent: u16,
    buffers: u16,
    looked: u16,
}

impl Rig {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("escape-vsock-{}-{name}", std::process::id()));
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        let transport = Arc::new(MmioTransport::new(model(CID), memory.clone(), Interrupt::new().unwrap()).unwrap());
        let vsock = Vsock::new(Arc::clone(&transport), &VsockConfig { cid: CID, socket: path.clone() }).unwrap();
        let mut rig = Self { memory, transport, vsock, path, sent: 0, buffers: 0, looked: 0 };
        rig.start();
        rig
    }

    fn start(&mut self) {
        let rings = [RECEIVE, TRANSMIT].map(|at| (at, at + 0x1000, at + 0x2000));
        bring_up(&self.transport, 1 << 32, QUEUE.into(), &rings);
        (self.sent, self.buffers, self.looked) = (0, 0, 0);
    }

    fn describe(&self, queue: u64, number: u16, address: u64, len: u32, flags: u16) {
        let at = number % QUEUE;
        let d = RawDescriptor::from(Descriptor::new(address, len, flags, 0));
        self.memory.write_obj(d, GuestAddress(queue + 16 * u64::from(at))).unwrap();
        self.memory.write_obj(at, GuestAddress(queue + 0x1004 + 2 * u64::from(at))).unwrap();
        self.memory.write_obj(number + 1, GuestAddress(queue + 0x1002)).unwrap();
    }

    fn buffer(&mut self, len: u32) {
        let address = BUFFERS_AT + BUFFER_BYTES * u64::from(self.buffers % QUEUE);
        self.describe(RECEIVE, self.buffers, address, len, 2);
        self.buffers += 1;
    }

    fn send(&mut self, port: u32, op: Op, flags: u32, data: &[u8]) {
        let to_host = Head {
            source: (u64::from(CID), 1000),
            destination: (2, port),
            len: u32::try_from(data.len()).unwrap(),
            kind: STREAM,
            op,
            flags,
            room: ROOM_BYTES,
            consumed: 0,
        };
        self.send_head(&to_host, data);
    }

    fn send_head(&mut self, head: &Head, data: &[u8]) {
        self.memory.write_slice(&head.bytes(), GuestAddress(SENT_AT)).unwrap();
        self.memory.write_slice(data, GuestAddress(SENT_AT + HEAD_BYTES as u64)).unwrap();
        let len = u32::try_from(HEAD_BYTES + data.len()).unwrap();
        self.describe(TRANSMIT, self.sent, SENT_AT, len, 0);
        self.sent += 1;
        self.vsock.service();
        assert_eq!(self.used(TRANSMIT), self.sent);
    }

    fn used(&self, queue: u64) -> u16 {
        self.memory.read_obj(GuestAddress(queue + 0x2002)).unwrap()
    }

    /// The next packet that the guest was given.
    fn received(&mut self) -> Option<(Head, Vec<u8>)> {
        self.vsock.service();
        if self.used(RECEIVE) == self.looked {
            return None;
        }
        let at = u64::from(self.looked % QUEUE);
        self.looked += 1;
        let len: u32 = self.memory.read_obj(GuestAddress(RECEIVE + 0x2004 + 8 * at + 4)).unwrap();
        let mut bytes = vec![0; len as usize];
        self.memory.read_slice(&mut bytes, GuestAddress(BUFFERS_AT + BUFFER_BYTES * at)).unwrap();
        let (head, data) = bytes.split_first_chunk::<HEAD_BYTES>().unwrap();
        let head = Head::of(head);
        assert_eq!((head.source.0, head.destination.0, head.len as usize), (2, u64::from(CID), data.len()));
        Some((head, data.to_vec()))
    }

    fn ops(&mut self) -> Vec<Op> {
        std::iter::from_fn(|| self.received().map(|(head, _)| head.op)).collect()
    }

    /// A program on the host connects to the guest's port 1000; the host's port.
    fn host_connects(&mut self) -> (UnixStream, u32) {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"CONNECT 1000\n").unwrap();
        self.buffer(4096);
        let (head, _) = self.received().unwrap();
        assert_eq!((head.op, head.destination.1), (Op::REQUEST, 1000));
        (stream, head.source.1)
    }

    fn open(&mut self) -> (UnixStream, u32) {
        let (mut stream, port) = self.host_connects();
        self.send(port, Op::RESPONSE, 0, &[]);
        let mut welcome = vec![0; format!("OK {port}\n").len()];
        stream.read_exact(&mut welcome).unwrap();
        assert_eq!(welcome, format!("OK {port}\n").as_bytes());
        (stream, port)
    }
}

fn read(stream: &mut UnixStream, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    stream.read_exact(&mut data).unwrap();
    data
}

#[test]
fn a_program_on_the_host_talks_to_the_guest() {
    let mut rig = Rig::new("host");
    let (mut stream, port) = rig.open();
    rig.send(port, Op::DATA, 0, b"from the guest");
    assert_eq!(read(&mut stream, 14), b"from the guest");
    stream.write_all(b"from the host").unwrap();
    assert_eq!(rig.received(), None, "there is no buffer");
    rig.buffer(HEAD_BYTES as u32 + 5);
    rig.buffer(4096);
    let parts: Vec<_> = std::iter::from_fn(|| rig.received()).map(|(head, data)| (head.op, data)).collect();
    assert_eq!(parts, [(Op::DATA, b"from ".to_vec()), (Op::DATA, b"the host".to_vec())]);
    let metrics = rig.vsock.metrics();
    assert_eq!((metrics.connections, metrics.sent_bytes, metrics.received_bytes), (1, 14, 13));
}

#[test]
fn the_guest_connects_to_a_socket_of_the_host() {
    let mut rig = Rig::new("guest");
    (0..3).for_each(|_| rig.buffer(4096));
    let path = PathBuf::from(format!("{}_80", rig.path.display()));
    let listener = UnixListener::bind(&path).unwrap();
    rig.send(80, Op::REQUEST, 0, &[]);
    let (mut stream, _) = listener.accept().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(rig.ops(), [Op::RESPONSE]);
    rig.send(80, Op::DATA, 0, b"hello");
    assert_eq!(read(&mut stream, 5), b"hello");
    rig.send(80, Op::REQUEST, 0, &[]);
    assert_eq!((rig.ops(), rig.vsock.metrics().broken), (vec![Op::RESET], 1), "connected twice");
    rig.send(81, Op::REQUEST, 0, &[]);
    assert_eq!((rig.ops(), rig.vsock.metrics().refused), (vec![Op::RESET], 1), "nobody listens");
}

#[test]
fn the_end_of_one_direction_leaves_the_other() {
    let mut rig = Rig::new("half");
    let (mut stream, port) = rig.open();
    (0..4).for_each(|_| rig.buffer(4096));
    rig.send(port, Op::DATA, 0, b"last");
    rig.send(port, Op::SHUTDOWN, NO_MORE_SENT, &[]);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last");
    stream.write_all(b"answer").unwrap();
    assert_eq!(rig.received().unwrap().1, b"answer");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let (head, _) = rig.received().unwrap();
    assert_eq!((head.op, head.flags), (Op::SHUTDOWN, NO_MORE_SENT));
    rig.send(port, Op::SHUTDOWN, NO_MORE_SENT | NO_MORE_RECEIVED, &[]);
    assert_eq!(rig.ops(), [Op::RESET], "both have ended");
    assert_eq!(rig.vsock.metrics().broken, 0);
}

#[test]
fn each_side_is_sent_no_more_than_it_has_room_for() {
    let mut rig = Rig::new("room");
    let (mut stream, port) = rig.open();
    stream.set_nonblocking(true).unwrap();
    // The guest has told of 64 KiB.
    let flood = vec![7; 1 << 20];
    let mut written = 0;
    let mut given = 0;
    for _ in 0..200 {
        written += stream.write(&flood).unwrap_or(0);
        if rig.buffers == rig.looked {
            rig.buffer(4096);
        }
        given += rig.received().map_or(0, |(_, data)| data.len());
    }
    assert_eq!(given, ROOM_BYTES as usize);
    assert!(written > given);
    let more = Head {
        source: (u64::from(CID), 1000),
        destination: (2, port),
        len: 0,
        kind: STREAM,
        op: Op::CREDIT,
        flags: 0,
        room: ROOM_BYTES,
        consumed: 100,
    };
    rig.send_head(&more, &[]);
    assert_eq!(rig.received().unwrap().1.len(), 100);
}

#[test]
fn a_guest_that_sends_more_than_there_is_room_for_loses_the_connection() {
    let mut rig = Rig::new("flood");
    let (_stream, port) = rig.open();
    // Nobody reads: first the socket's own buffer fills, then ours.
    let part = vec![1; 60 << 10];
    for _ in 0..64 {
        rig.send(port, Op::DATA, 0, &part);
        if rig.vsock.metrics().broken > 0 {
            break;
        }
    }
    rig.buffer(4096);
    (0..4).for_each(|_| rig.buffer(4096));
    let ops = rig.ops();
    assert_eq!((ops.last(), rig.vsock.metrics().broken), (Some(&Op::RESET), 1), "{ops:?}");
}

#[test]
fn the_guest_hears_of_room_in_time() {
    let mut rig = Rig::new("credit");
    let (mut stream, port) = rig.open();
    (0..2).for_each(|_| rig.buffer(4096));
    rig.send(port, Op::DATA, 0, &[1; 40 << 10]);
    assert_eq!(read(&mut stream, 40 << 10).len(), 40 << 10);
    let (head, _) = rig.received().unwrap();
    assert_eq!((head.op, head.consumed, head.room), (Op::CREDIT, 40 << 10, ROOM_BYTES));
}

#[test]
fn nonsense_is_refused_and_hurts_nobody() {
    let mut rig = Rig::new("nonsense");
    let (mut stream, port) = rig.open();
    (0..8).for_each(|_| rig.buffer(4096));
    let good = Head {
        source: (u64::from(CID), 1000),
        destination: (2, port),
        len: 0,
        kind: STREAM,
        op: Op::DATA,
        flags: 0,
        room: 0,
        consumed: 0,
    };
    for foreign in [
        Head { source: (9, 1000), ..good },
        Head { destination: (3, port), ..good },
        Head { kind: 2, ..good },
        Head { destination: (2, port + 1), ..good },
    ] {
        rig.send_head(&foreign, &[]);
        assert_eq!(rig.ops(), [Op::RESET], "{foreign:?}");
    }
    rig.send_head(&Head { len: 5, ..good }, b"four");
    rig.describe(TRANSMIT, rig.sent, SENT_AT, 43, 0);
    rig.sent += 1;
    rig.describe(TRANSMIT, rig.sent, u64::MAX - 7, 44, 0);
    rig.sent += 1;
    rig.vsock.service();
    let metrics = rig.vsock.metrics();
    assert_eq!((metrics.foreign, metrics.chains_malformed, metrics.broken), (4, 3, 0));
    rig.send(port, Op::DATA, 0, b"still here");
    assert_eq!(read(&mut stream, 10), b"still here");
    rig.send(port, Op(77), 0, &[]);
    assert_eq!((rig.ops(), rig.vsock.metrics().broken), (vec![Op::RESET], 1));
}

#[test]
fn a_guest_without_room_that_says_it_consumed_more_than_it_got_is_sent_nothing() {
    let mut rig = Rig::new("lies");
    let (mut stream, port) = rig.open();
    let lie = Head {
        source: (u64::from(CID), 1000),
        destination: (2, port),
        len: 0,
        kind: STREAM,
        op: Op::CREDIT,
        flags: 0,
        room: 100,
        consumed: 50,
    };
    rig.send_head(&lie, &[]);
    stream.write_all(b"x").unwrap();
    rig.buffer(4096);
    assert_eq!(rig.received(), None);
}

#[test]
fn a_new_life_of_the_guest_ends_all_streams() {
    let mut rig = Rig::new("life");
    let (mut stream, port) = rig.open();
    rig.transport.reset();
    rig.vsock.service();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    rig.start();
    rig.buffer(4096);
    rig.send(port, Op::DATA, 0, b"late");
    assert_eq!(rig.ops(), [Op::RESET]);
    let (_again, _) = rig.open();
}

#[test]
fn the_queue_of_a_mad_driver_stops_the_device_only() {
    let mut rig = Rig::new("queue");
    rig.memory.write_obj(QUEUE + 1, GuestAddress(TRANSMIT + 0x1002)).unwrap();
    assert!(!rig.vsock.service());
    assert_eq!((rig.vsock.metrics().queues_broken, rig.transport.metrics().needs_reset), (1, 1));
    assert!(rig.transport.lock().queue(RECEIVE_QUEUE).is_none() && rig.transport.kicks().len() > TRANSMIT_QUEUE);
}

#[test]
fn a_socket_has_one_owner_and_one_that_was_left_is_replaced() {
    let rig = Rig::new("owner");
    let config = VsockConfig { cid: CID, socket: rig.path.clone() };
    let again = Vsock::new(Arc::clone(&rig.transport), &config);
    assert!(matches!(again, Err(VsockError::InUse { .. })));
    let path = rig.path.clone();
    drop(rig);
    assert!(!path.exists());
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind");
    let rig = Rig::new("owner");
    assert!(rig.path.exists());
    let reserved = VsockConfig { cid: 2, socket: path };
    assert!(matches!(Vsock::new(Arc::clone(&rig.transport), &reserved), Err(VsockError::Cid { cid: 2 })));
}

#[test]
fn connections_are_bounded() {
    let mut rig = Rig::new("many");
    let mut streams = Vec::new();
    for _ in 0..260 {
        let mut stream = UnixStream::connect(&rig.path).unwrap();
        stream.write_all(b"CONNECT 1\n").unwrap();
        streams.push(stream);
        rig.vsock.service();
    }
    assert_eq!((rig.vsock.metrics().connections, rig.vsock.metrics().refused), (256, 4));
    let last = streams.last_mut().unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0, "refused by the end of the stream");
}
