//! Tests of gate and mirror.

#![allow(clippy::unwrap_used)]

use super::super::segment::TcpFlags;
use super::super::test_frames::{FrameBuilder, SERVICE_IP, flow};
use super::*;
use proptest::prelude::*;

fn store_with(limits: IngressLimits) -> IngressStore {
    IngressStore::new(SERVICE_IP, ProtectedPorts::new(&[80]).unwrap(), limits)
}

fn store() -> IngressStore {
    store_with(IngressLimits::default())
}

fn data(port: u16, seq: u32, len: usize) -> Vec<u8> {
    let flags = TcpFlags::ACK | TcpFlags::PSH;
    FrameBuilder::new(flow(port)).seq(seq).flags(flags).payload(&vec![1; len]).sent_by_client()
}

fn control(port: u16, seq: u32, flags: u8) -> Vec<u8> {
    FrameBuilder::new(flow(port)).seq(seq).flags(flags).sent_by_client()
}

/// Replays everything: (sequence, flags, payload length).
fn replayed(store: &mut IngressStore, port: u16) -> Vec<(u32, u8, u16)> {
    let mut frames = Vec::new();
    let replay = store.replay(&flow(port), &mut |frame| {
        let Frame::Tcp(s) = parse(frame, Source::Client) else { panic!("not TCP") };
        frames.push((s.seq, s.flags.0, s.payload_len));
        true
    });
    assert_eq!(replay, Replay::Done { frames: frames.len() });
    frames
}

const PSH_ACK: u8 = TcpFlags::ACK | TcpFlags::PSH;

#[test]
fn replays_in_order_what_no_checkpoint_covers() {
    let mut store = store();
    assert!(store.covered(flow(1), 100, 0));
    for frame in [
        control(1, 140, TcpFlags::RST),
        data(1, 130, 10),
        control(1, 140, TcpFlags::FIN | TcpFlags::ACK),
        data(1, 100, 10),
        control(1, 141, TcpFlags::ACK),
        data(1, 110, 20),
        data(1, 105, 10),
    ] {
        assert_eq!(store.mirror_frame(&frame, 1), Inbound::Stored);
    }
    assert_eq!(store.mirror_frame(&data(1, 90, 10), 1), Inbound::Dropped);
    store.covered(flow(1), 112, 2);
    assert_eq!(
        replayed(&mut store, 1),
        [
            (105, PSH_ACK, 10),
            (110, PSH_ACK, 20),
            (130, PSH_ACK, 10),
            (140, TcpFlags::FIN | TcpFlags::ACK, 0),
            (141, TcpFlags::ACK, 0),
            (140, TcpFlags::RST, 0)
        ]
    );
    assert_eq!((store.held_bytes(), store.flows()), (0, (0, 0)));
}

#[test]
fn coverage_never_goes_back_and_covers_the_syn() {
    let mut store = store();
    store.mirror_frame(&control(1, u32::MAX, TcpFlags::SYN), 0);
    store.mirror_frame(&data(1, 0, 10), 0);
    assert_eq!(store.kept(&flow(1)), 2);
    store.covered(flow(1), 0, 0);
    assert_eq!(store.kept(&flow(1)), 1);
    store.covered(flow(1), 10, 0);
    store.covered(flow(1), 5, 0);
    assert_eq!(store.mirror_frame(&data(1, 0, 10), 0), Inbound::Dropped);
    assert_eq!((store.kept(&flow(1)), store.held_bytes()), (0, 0));
}

#[test]
fn the_gate_keeps_and_opens() {
    let mut store = store();
    let gated = |f: &Flow| *f == flow(1);
    assert_eq!(store.on_inbound(&data(1, 0, 10), 0, gated), Inbound::Stored);
    assert!(matches!(store.on_inbound(&data(2, 0, 10), 0, gated), Inbound::ToGuest(Some(_))));
    let mut arp = data(1, 0, 10);
    arp[24..26].copy_from_slice(&[8, 6]);
    assert_eq!(store.on_inbound(&arp, 0, gated), Inbound::ToGuest(None));
    let mut fragment = data(2, 0, 10);
    fragment[26 + 6] = 0x20;
    assert_eq!(store.on_inbound(&fragment, 0, gated), Inbound::Dropped);
    store.on_inbound(&data(1, 10, 10), 0, gated);
    // The guest takes one frame, then has no buffer: nothing is lost, nothing comes twice.
    let mut room = 1;
    let replay = store.replay(&flow(1), &mut |_| {
        room -= 1;
        room >= 0
    });
    assert_eq!(replay, Replay::Blocked { frames: 1, left: 1 });
    assert_eq!(replayed(&mut store, 1), [(10, PSH_ACK, 10)]);
}

#[test]
fn a_flow_is_bounded_and_gives_up_its_highest() {
    let limits = IngressLimits { flow: FlowLimits { window_bytes: 100, segments_max: 8 }, ..IngressLimits::default() };
    let mut store = store_with(limits);
    store.covered(flow(1), 0, 0);
    for n in (1..10).rev() {
        store.mirror_frame(&data(1, n * 10, 10), 0);
    }
    assert_eq!(store.kept(&flow(1)), 8);
    assert_eq!(store.mirror_frame(&data(1, 0, 10), 0), Inbound::Stored);
    assert_eq!(store.mirror_frame(&data(1, 85, 10), 0), Inbound::Dropped);
    assert_eq!(store.mirror_frame(&data(1, 95, 10), 0), Inbound::Dropped);
    let seqs: Vec<u32> = replayed(&mut store, 1).iter().map(|f| f.0).collect();
    assert_eq!(seqs, [0, 10, 20, 30, 40, 50, 60, 70]);
    assert_eq!(store.metrics().beyond_window, 1);
}

#[test]
fn the_vmm_is_bounded_and_flows_do_not_take_from_each_other() {
    let mut store = store_with(IngressLimits { vmm_bytes_max: 4 * 2048, ..IngressLimits::default() });
    for n in 0..4 {
        assert_eq!(store.mirror_frame(&data(1, 5000 + n * 1000, 1000), 0), Inbound::Stored);
    }
    assert_eq!(store.mirror_frame(&data(2, 0, 1000), 0), Inbound::Dropped);
    assert_eq!(store.mirror_frame(&data(1, 4000, 1000), 0), Inbound::Stored);
    let seqs: Vec<u32> = replayed(&mut store, 1).iter().map(|f| f.0).collect();
    assert_eq!(seqs, [4000, 5000, 6000, 7000]);
    assert_eq!((store.held_bytes(), store.metrics().over_vmm_limit), (0, 1));
}

#[test]
fn a_flood_of_unknown_flows_never_costs_a_known_one() {
    let mut store = store_with(IngressLimits { unknown_flows_max: 10, known_flows_max: 2, ..IngressLimits::default() });
    store.covered(flow(60_000), 0, 0);
    store.mirror_frame(&data(60_000, 0, 10), 0);
    for port in 0..1000 {
        store.mirror_frame(&control(port, 7, TcpFlags::SYN), u64::from(port));
        store.mirror_frame(&control(0, 7, TcpFlags::SYN), u64::from(port));
    }
    assert_eq!(store.flows(), (1, 10));
    assert!(store.unknown.len() <= 20);
    assert_eq!((store.kept(&flow(60_000)), store.kept(&flow(0)), store.kept(&flow(500))), (1, 1, 0));
    assert!(store.covered(flow(0), 8, 0));
    assert!(!store.covered(flow(1), 8, 0));
    store.expire(5_000_000 + 1000);
    assert_eq!(store.flows(), (2, 0));
    store.forget(&flow(0));
    store.forget(&flow(60_000));
    assert_eq!((store.flows(), store.held_bytes()), ((0, 0), 0));
}

proptest! {
    /// A byte stream, cut and shuffled anyhow, with checkpoints in between: what covered state and replay have together
    /// is every byte that the store took, in order, and the bounds hold.
    #[test]
    fn nothing_uncovered_is_lost(
        isn in any::<u32>(),
        pieces in proptest::collection::vec((0u32..4000, 1u32..600), 1..40),
        cover in proptest::collection::vec((0usize..40, 0u32..4000), 0..6),
    ) {
        let mut store = store();
        store.covered(flow(1), isn, 0);
        let mut taken = vec![false; 4600];
        let mut covered = 0;
        for (n, (at, len)) in pieces.iter().enumerate() {
            for (_, upto) in cover.iter().filter(|(when, _)| *when == n) {
                covered = covered.max(*upto);
                store.covered(flow(1), isn.wrapping_add(*upto), 0);
            }
            if store.mirror_frame(&data(1, isn.wrapping_add(*at), *len as usize), 0) == Inbound::Stored {
                taken[*at as usize..(*at + *len) as usize].fill(true);
            }
        }
        let frames = replayed(&mut store, 1);
        let mut have = vec![false; 4600];
        have[..covered as usize].fill(true);
        let mut last = None;
        for (seq, _, len) in frames {
            let at = seq.wrapping_sub(isn) as usize;
            prop_assert!(last.is_none_or(|last| last < at));
            last = Some(at);
            have[at..at + usize::from(len)].fill(true);
        }
        for (byte, taken) in taken.iter().enumerate() {
            prop_assert!(!taken || have[byte], "byte {} was taken and is lost", byte);
        }
        prop_assert_eq!(store.held_bytes(), 0);
    }
}
