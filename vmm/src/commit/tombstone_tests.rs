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
        from_client(600, TcpFlags::SYN, 0),
    ] {
        let TombstoneAnswer::Answer(frame) = stones.answer(&late, 10) else { panic!("no answer to {late:?}") };
        let Frame::Tcp(ack) = parse(&frame, Source::Guest) else { panic!("not TCP") };
        assert!(ack.pure_ack());
        assert_eq!((ack.seq, ack.ack, ack.flow), (5000, 700, flow(1)));
    }
    assert_eq!(stones.metrics().answered, 4);
}

#[test]
fn acknowledgements_and_resets_get_silence() {
    let mut stones = standing();
    assert_eq!(stones.answer(&from_client(700, TcpFlags::ACK, 0), 10), TombstoneAnswer::Silent);
    assert_eq!(stones.answer(&from_client(650, TcpFlags::RST, 0), 10), TombstoneAnswer::Silent);
}

/// TCP-FAILOVER, T14: a process has died with a request unread, and the reset was lost: the client sends the request again.
#[test]
fn what_is_beyond_the_slices_end_is_reset() {
    let mut stones = standing();
    let TombstoneAnswer::Answer(frame) = stones.answer(&from_client(690, TcpFlags::ACK, 20), 10) else {
        panic!("silence")
    };
    let Frame::Tcp(reset) = parse(&frame, Source::Guest) else { panic!("not TCP") };
    assert_eq!((reset.flags.rst(), reset.flags.ack(), reset.seq, reset.flow), (true, false, 5000, flow(1)));
    assert_eq!((stones.metrics().reset, stones.metrics().answered), (1, 0));
}

#[test]
fn a_slice_that_was_given_up_is_reset_whatever_its_client_says_and_a_later_connection_is_not() {
    let mut stones = Tombstones::new(SERVICE_MAC);
    stones.lay_given_up(CLOSED, 0);
    let from = |ack| {
        let frame = FrameBuilder::new(flow(1)).seq(700).ack(ack).flags(TcpFlags::ACK).sent_by_client();
        let Frame::Tcp(segment) = parse(&frame, Source::Client) else { panic!("not TCP") };
        segment
    };
    for behind in [0, 1400, RESET_NEAR] {
        let ack = CLOSED.snd_nxt.wrapping_sub(behind);
        let TombstoneAnswer::Answer(frame) = stones.answer(&from(ack), 10) else { panic!("silence") };
        let Frame::Tcp(reset) = parse(&frame, Source::Guest) else { panic!("not TCP") };
        assert_eq!((reset.flags.rst(), reset.seq), (true, ack), "what the client expects next");
    }
    for other in [CLOSED.snd_nxt + 1, CLOSED.snd_nxt.wrapping_sub(RESET_NEAR + 1)] {
        assert_eq!(stones.answer(&from(other), 10), TombstoneAnswer::Silent);
    }
    assert_eq!(stones.answer(&from_client(700, TcpFlags::RST, 0), 10), TombstoneAnswer::Silent);
    assert_eq!(stones.answer(&from_client(701, TcpFlags::SYN, 0), 10), TombstoneAnswer::Reopened);
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
