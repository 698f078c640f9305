//! Tests of tombstones.

#![allow(clippy::unwrap_used)]

use super::super::frame::{Frame, Source, parse};
use super::super::segment::TcpFlags;
use super::super::test_frames::{FrameBuilder, SERVICE_MAC, flow};
use super::*;

const CLOSED: Tombstone = Tombstone {
    slice: SliceId { slot: 5, incarnation: 9 << 32 | 3 },
    flow: Flow { ip: [10, 0, 0, 9], port: 1, service_port: 80 },
    snd_nxt: 5000,
    rcv_nxt: 700,
};

fn from_client(seq: u32, flags: u8, len: usize) -> Segment {
    let frame = FrameBuilder::new(flow(1)).seq(seq).ack(5000).flags(flags).payload(&vec![0; len]).sent_by_client();
    match parse(&frame, Source::Client) {
        Frame::Tcp(segment) => segment,
        other => panic!("{other:?}"),
    }
}

fn standing() -> Tombstones {
    let mut stones = Tombstones::new(SERVICE_MAC);
    stones.lay(CLOSED, TOMBSTONE_US, 0);
    stones
}

#[test]
fn late_segments_get_the_final_acknowledgement() {
    let mut stones = standing();
    for late in [
        from_client(699, TcpFlags::FIN | TcpFlags::ACK, 0),
        from_client(650, TcpFlags::FIN | TcpFlags::ACK, 49),
        from_client(699, TcpFlags::ACK, 0),
        from_client(700, TcpFlags::ACK, 10),
        from_client(600, TcpFlags::SYN, 0),
    ] {
        let TombstoneAnswer::Answer(frame) = stones.answer(&late, 10) else { panic!("no answer to {late:?}") };
        let Frame::Tcp(ack) = parse(&frame, Source::Guest) else { panic!("not TCP") };
        assert!(ack.pure_ack());
        assert_eq!((ack.seq, ack.ack, ack.flow), (5000, 700, flow(1)));
    }
    assert_eq!(stones.metrics().answered, 5);
}

#[test]
fn acknowledgements_and_resets_get_silence() {
    let mut stones = standing();
    assert_eq!(stones.answer(&from_client(700, TcpFlags::ACK, 0), 10), TombstoneAnswer::Silent);
    assert_eq!(stones.answer(&from_client(650, TcpFlags::RST, 0), 10), TombstoneAnswer::Silent);
}

#[test]
fn a_newer_syn_opens_the_flow_again_and_time_ends_it() {
    let mut stones = standing();
    assert_eq!(stones.answer(&from_client(701, TcpFlags::SYN, 0), 10), TombstoneAnswer::Reopened);
    assert_eq!(stones.answer(&from_client(699, TcpFlags::FIN, 0), 10), TombstoneAnswer::NoTombstone);
    let mut stones = standing();
    assert_eq!(stones.answer(&from_client(699, TcpFlags::FIN, 0), TOMBSTONE_US), TombstoneAnswer::NoTombstone);
    stones.expire(TOMBSTONE_US);
    assert!(stones.is_empty());
}

#[test]
fn the_oldest_goes_when_there_are_too_many() {
    let mut stones = standing();
    for n in 0..TOMBSTONES_MAX as u64 {
        let flow = Flow { ip: [10, 1, (n >> 8) as u8, n as u8], ..CLOSED.flow };
        stones.lay(Tombstone { flow, ..CLOSED }, TOMBSTONE_US, n + 1);
    }
    assert_eq!((stones.len(), stones.metrics().dropped_early), (TOMBSTONES_MAX, 1));
    assert_eq!(stones.get(&CLOSED.flow, 20_000), None);
    // Laying one flow over and over stays bounded too.
    for n in 0..2 * TOMBSTONES_MAX as u64 {
        stones.lay(CLOSED, TOMBSTONE_US, 30_000 + n);
    }
    assert!(stones.order.len() <= TOMBSTONES_MAX && stones.len() == 1);
}

#[test]
fn forty_bytes_carry_it() {
    let bytes = CLOSED.to_bytes(1234);
    assert_eq!(Tombstone::from_bytes(&bytes), Some((CLOSED, 1234)));
    let mut reserved = bytes;
    reserved[39] = 1;
    assert_eq!(Tombstone::from_bytes(&reserved), None);
    assert_eq!(Tombstone::from_bytes(&CLOSED.to_bytes(u64::MAX)), Some((CLOSED, TOMBSTONE_US)));
}
