//! Tests of the valve alone: verdicts, order, quotas, isolation, breaches.

#![allow(clippy::unwrap_used)]

#[path = "valve_kernel_tests.rs"]
mod kernel;

use super::super::connections::{Connection, Connections};
use super::super::protected_ports::ProtectedPorts;
use super::super::quota::HoldLimits;
use super::super::segment::TcpFlags;
use super::super::test_frames::{FrameBuilder, SERVICE_IP, flow};
use super::super::test_memory::TestMemory;
use super::*;
use escape_abi::SlotWord;
use proptest::prelude::*;

const ALL: u8 = TcpFlags::ACK | TcpFlags::PSH;

fn config() -> ValveConfig {
    ValveConfig {
        n_slots: 4,
        service_ip: SERVICE_IP,
        protected_ports: ProtectedPorts::new(&[80]).unwrap(),
        unprotected_output: false,
        mode: Mode::Protect,
        limits: HoldLimits::default(),
        rule: Rule::Generation,
        on_breach: BreachPolicy::Panic,
    }
}

fn slice(slot: u32) -> SliceId {
    SliceId { slot, incarnation: 7 }
}

fn bound_with(config: ValveConfig) -> (Valve, TestMemory) {
    let mut valve = Valve::new(config);
    for slot in 0..3 {
        valve.saw_syn(flow(slot as u16), 0, 0);
        valve.bind(slice(slot), flow(slot as u16), 0).unwrap();
    }
    (valve, TestMemory::new(4))
}

fn bound() -> (Valve, TestMemory) {
    bound_with(config())
}

fn data(slot: u32, seq: u32, len: usize) -> Vec<u8> {
    FrameBuilder::new(flow(slot as u16)).seq(seq).ack(50).flags(ALL).payload(&vec![seq as u8; len]).sent_by_guest()
}

/// Equal frontiers for the flows of all slots: most tests ask about one of them.
fn coverage(generation: u64, snd_nxt: u32) -> Coverage {
    let mut connections = Connections::default();
    for slot in 0..3 {
        let flow = flow(slot as u16);
        connections.set(slot, Connection { flow, serial: 0, snd_nxt, rcv_nxt: 50, ended: false });
    }
    Coverage { incarnation: 7, generation, connections }
}

fn released(valve: &mut Valve, slot: u32, coverage: Coverage) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    valve.release(slot, &coverage, &mut |frame| frames.push(frame.to_vec()));
    frames
}

#[test]
fn need_follows_the_word_and_release_the_commit() {
    let (mut valve, memory) = bound();
    memory.set_word(0, SlotWord::new(5, 0));
    let first = data(0, 10, 4);
    assert_eq!(valve.submit(&first, &memory, 0), Verdict::Held { slice: slice(0), need: 5 });
    memory.set_word(0, SlotWord::new(5, 1));
    let second = data(0, 14, 4);
    assert_eq!(valve.submit(&second, &memory, 0), Verdict::Held { slice: slice(0), need: 6 });
    assert!(released(&mut valve, 0, coverage(4, 18)).is_empty());
    assert_eq!(released(&mut valve, 0, coverage(5, 18)), [first]);
    assert_eq!(released(&mut valve, 0, coverage(6, 18)), [second]);
    // Committed already: may leave at once. Another slice, another incarnation: not.
    memory.set_word(0, SlotWord::new(6, 0));
    assert_eq!(valve.submit(&data(0, 14, 4), &memory, 0), Verdict::Send);
    assert!(matches!(valve.submit(&data(1, 14, 4), &memory, 0), Verdict::Held { need: 0, .. }));
    assert!(released(&mut valve, 1, Coverage { incarnation: 6, ..coverage(9, 18) }).is_empty());
    assert_eq!(valve.held_frames(1), 1);
}

#[test]
fn connections_of_one_slice_have_frontiers_of_their_own() {
    let (mut valve, memory) = bound();
    valve.saw_syn(flow(11), 0, 0);
    valve.join(slice(0), 1, flow(11), 0).unwrap();
    let second = FrameBuilder::new(flow(11)).seq(900).ack(70).flags(ALL).payload(&[1; 4]).sent_by_guest();
    let frontier = |ended, generation| {
        let mut connections = Connections::one(flow(0), 50, 14);
        connections.set(1, Connection { flow: flow(11), serial: 0, rcv_nxt: 70, snd_nxt: 904, ended });
        Coverage { incarnation: 7, generation, connections }
    };
    memory.set_word(0, SlotWord::new(5, 0));
    assert_eq!(valve.submit(&data(0, 10, 4), &memory, 0), Verdict::Held { slice: slice(0), need: 5 });
    assert_eq!(valve.submit(&second, &memory, 0), Verdict::Held { slice: slice(0), need: 5 });
    assert_eq!(released(&mut valve, 0, frontier(false, 5)), [data(0, 10, 4), second.clone()]);
    assert_eq!(valve.submit(&second, &memory, 0), Verdict::Send, "sent again, and covered");
    // What follows the end of a connection is nobody's; the other goes on.
    assert!(released(&mut valve, 0, frontier(true, 6)).is_empty());
    assert!(valve.end_connection(slice(0), &flow(11)) && !valve.end_connection(slice(0), &flow(11)));
    assert_eq!(valve.submit(&second, &memory, 0), Verdict::Dropped(DropCause::Unbound));
    assert_eq!(valve.submit(&data(0, 10, 4), &memory, 0), Verdict::Send);
}

#[test]
fn a_frame_of_a_connection_that_the_commit_does_not_know_is_a_breach() {
    let (mut valve, memory) = bound_with(ValveConfig { on_breach: BreachPolicy::Quarantine, ..config() });
    valve.saw_syn(flow(11), 0, 0);
    valve.join(slice(0), 1, flow(11), 0).unwrap();
    valve.submit(&FrameBuilder::new(flow(11)).sent_by_guest(), &memory, 0);
    assert!(
        released(&mut valve, 0, Coverage { connections: Connections::one(flow(0), 0, 0), ..coverage(9, 0) }).is_empty()
    );
    assert!(valve.is_quarantined(slice(0)));
}

#[test]
fn whatever_is_not_a_bound_slice_is_dropped_for_its_cause() {
    let (mut valve, memory) = bound();
    let dropped = |valve: &mut Valve, frame: &[u8]| match valve.submit(frame, &memory, 0) {
        Verdict::Dropped(cause) => cause,
        other => panic!("{other:?}"),
    };
    let rst = FrameBuilder::new(flow(3)).flags(TcpFlags::RST).sent_by_guest();
    assert_eq!(dropped(&mut valve, &rst), DropCause::Unbound);
    let other_port = FrameBuilder::new(Flow { service_port: 22, ..flow(0) }).sent_by_guest();
    assert_eq!(dropped(&mut valve, &other_port), DropCause::Unprotected);
    let mut spoofed = data(0, 1, 1);
    spoofed[26 + 15] ^= 1;
    assert_eq!(dropped(&mut valve, &spoofed), DropCause::Spoofed);
    let changed = |at: usize, bytes: &[u8]| [&data(0, 1, 1)[..at], bytes, &data(0, 1, 1)[at + bytes.len()..]].concat();
    let (fragment, vlan) = (changed(26 + 6, &[0x20]), changed(24, &[0x81, 0x00]));
    for frame in [&fragment, &vlan, &Vec::new()] {
        assert_eq!(dropped(&mut valve, frame), DropCause::Unparsable);
    }
    let (arp, ipv6, udp) = (changed(24, &[8, 6]), changed(24, &[0x86, 0xdd]), changed(26 + 9, &[17]));
    for frame in [&arp, &ipv6, &udp] {
        assert_eq!(dropped(&mut valve, frame), DropCause::Unprotected);
    }
    valve.config.unprotected_output = true;
    assert_eq!(valve.submit(&arp, &memory, 0), Verdict::PassUnprotected);
    assert_eq!(valve.submit(&other_port, &memory, 0), Verdict::PassUnprotected);
    assert_eq!(dropped(&mut valve, &rst), DropCause::Unbound);
    assert_eq!((valve.metrics().dropped_for(DropCause::Unbound), valve.held_bytes()), (2, 0));
}

#[test]
fn pass_through_holds_nothing() {
    let (mut valve, memory) = bound_with(ValveConfig { mode: Mode::PassThrough, ..config() });
    assert_eq!(valve.submit(&data(0, 1, 1), &memory, 0), Verdict::Send);
    assert_eq!(valve.submit(&[], &memory, 0), Verdict::Send);
}

#[test]
fn a_slice_with_uncovered_output_waits_exactly_once() {
    let (mut valve, memory) = bound();
    memory.set_word(0, SlotWord::new(3, 0));
    valve.submit(&data(0, 10, 4), &memory, 0);
    valve.submit(&data(0, 14, 4), &memory, 0);
    valve.submit(&data(1, 10, 4), &memory, 0);
    assert_eq!(
        (valve.next_waiting(), valve.next_waiting(), valve.next_waiting()),
        (Some(slice(0)), Some(slice(1)), None)
    );
    // A capture that came too early leaves the slice on the list; one that covers does not.
    valve.note_captured(slice(0), 2);
    assert_eq!(valve.next_waiting(), Some(slice(0)));
    valve.note_captured(slice(0), 3);
    assert_eq!(valve.next_waiting(), None);
    valve.want_capture(slice(1));
    valve.want_capture(slice(1));
    valve.want_capture(SliceId { incarnation: 1, ..slice(1) });
    assert_eq!((valve.next_waiting(), valve.next_waiting()), (Some(slice(1)), None));
    valve.want_capture(slice(1));
    valve.discard(slice(1));
    assert_eq!(valve.next_waiting(), None);
}

#[test]
fn copies_are_dropped_but_not_what_differs() {
    let (mut valve, memory) = bound();
    memory.set_word(0, SlotWord::new(1, 0));
    let frame = data(0, 10, 4);
    assert!(matches!(valve.submit(&frame, &memory, 0), Verdict::Held { .. }));
    assert_eq!(valve.submit(&frame, &memory, 0), Verdict::Dropped(DropCause::Duplicate));
    let acks_more = FrameBuilder::new(flow(0)).seq(10).ack(51).flags(ALL).payload(&[10; 4]).sent_by_guest();
    assert!(matches!(valve.submit(&acks_more, &memory, 0), Verdict::Held { .. }));
    // Duplicate acknowledgements mean something (fast retransmit), so they are never copies.
    let ack = FrameBuilder::new(flow(0)).seq(14).ack(50).sent_by_guest();
    assert!(matches!(valve.submit(&ack, &memory, 0), Verdict::Held { .. }));
    assert!(matches!(valve.submit(&ack, &memory, 0), Verdict::Held { .. }));
}

#[test]
fn one_greedy_slice_hurts_itself_alone_and_can_still_end() {
    let limits = HoldLimits { slice_frames_max: 8, slice_endings_max: 2, ..HoldLimits::default() };
    let (mut valve, memory) = bound_with(ValveConfig { limits, ..config() });
    memory.set_word(0, SlotWord::new(1, 0));
    for n in 0..100 {
        valve.submit(&data(0, 10 + 4 * n, 4), &memory, 0);
    }
    assert_eq!(valve.held_frames(0), 8);
    assert_eq!(valve.metrics().dropped_for(DropCause::SliceQuota), 92);
    assert!(matches!(valve.submit(&data(1, 10, 4), &memory, 0), Verdict::Held { .. }));
    let ending = |n: u32, flags| FrameBuilder::new(flow(0)).seq(42 + n).ack(50).flags(flags).sent_by_guest();
    assert!(matches!(valve.submit(&ending(0, TcpFlags::FIN | TcpFlags::ACK), &memory, 0), Verdict::Held { .. }));
    assert!(matches!(valve.submit(&ending(1, TcpFlags::RST), &memory, 0), Verdict::Held { .. }));
    assert_eq!(
        valve.submit(&ending(2, TcpFlags::RST), &memory, 0),
        Verdict::Dropped(DropCause::EndingQuota),
        "endings are bounded too"
    );
    // RST and FIN come last, behind the data (invariant I6).
    let frames = released(&mut valve, 0, coverage(1, 100));
    assert_eq!(frames.len(), 10);
    assert_eq!(frames[8..], [ending(0, TcpFlags::FIN | TcpFlags::ACK), ending(1, TcpFlags::RST)]);
}

#[test]
fn the_guests_bytes_are_bounded() {
    let limits = HoldLimits { vm_bytes_max: 3 * 2048, ..HoldLimits::default() };
    let (mut valve, memory) = bound_with(ValveConfig { limits, ..config() });
    for slot in 0..3 {
        memory.set_word(slot, SlotWord::new(1, 0));
    }
    for n in 0..10 {
        valve.submit(&data(n % 3, 10 + n * 1400, 1400), &memory, 0);
    }
    assert_eq!((valve.held_bytes(), valve.metrics().dropped_for(DropCause::VmQuota)), (3 * 2048, 7));
    for slot in 0..3 {
        valve.discard(slice(slot));
    }
    assert_eq!(valve.held_bytes(), 0);
}

#[test]
fn old_data_expires_and_endings_stay() {
    let (mut valve, memory) = bound();
    memory.set_word(0, SlotWord::new(1, 0));
    valve.submit(&data(0, 10, 4), &memory, 0);
    valve.submit(&data(0, 14, 4), &memory, 10);
    let fin = FrameBuilder::new(flow(0)).seq(18).ack(50).flags(TcpFlags::FIN | TcpFlags::ACK).sent_by_guest();
    valve.submit(&fin, &memory, 11);
    assert_eq!(valve.oldest_held_us(), Some(0));
    assert_eq!(valve.expire(10_000_005), 1);
    assert_eq!(valve.oldest_held_us(), Some(10));
    assert_eq!(valve.expire(u64::MAX), 1);
    assert_eq!(released(&mut valve, 0, coverage(1, 19)), [fin]);
    assert_eq!((valve.oldest_held_us(), valve.expire(u64::MAX)), (None, 0));
}

#[test]
#[should_panic(expected = "invariant I1")]
fn a_frame_beyond_the_committed_state_is_a_fault() {
    let (mut valve, memory) = bound();
    memory.set_word(0, SlotWord::new(1, 0));
    valve.submit(&data(0, 10, 4), &memory, 0);
    released(&mut valve, 0, coverage(1, 13));
}

#[test]
fn in_production_a_breach_quarantines_that_slice() {
    let (mut valve, memory) = bound_with(ValveConfig { on_breach: BreachPolicy::Quarantine, ..config() });
    for slot in 0..2 {
        memory.set_word(slot, SlotWord::new(1, 0));
        valve.submit(&data(slot, 10, 4), &memory, 0);
        valve.submit(&data(slot, 14, 4), &memory, 0);
    }
    let mut frames = 0;
    let result = valve.release(0, &coverage(1, 15), &mut |_| frames += 1);
    assert_eq!((frames, result.left), (1, 0));
    assert!(matches!(result.breach, Some(Breach::Sequence { .. })));
    assert!(valve.is_quarantined(slice(0)) && !valve.is_quarantined(slice(1)));
    assert_eq!(valve.submit(&data(0, 10, 4), &memory, 0), Verdict::Dropped(DropCause::Quarantined));
    assert_eq!(released(&mut valve, 1, coverage(1, 18)).len(), 2);
    // The committed frontier also judges frames that could leave at once.
    memory.set_word(1, SlotWord::new(1, 0));
    assert_eq!(valve.submit(&data(1, 18, 1), &memory, 0), Verdict::Dropped(DropCause::Quarantined));
    assert_eq!((valve.metrics().breaches, valve.metrics().quarantined), (2, 2));
}

#[test]
fn numbers_far_from_the_frontier_are_dropped() {
    let (mut valve, memory) = bound();
    memory.set_word(0, SlotWord::new(1, 0));
    valve.release(0, &coverage(1, 1000), &mut |_| {});
    memory.set_word(0, SlotWord::new(1, 1));
    assert_eq!(valve.submit(&data(0, 0x6000_0000, 1), &memory, 0), Verdict::Dropped(DropCause::Horizon));
    assert!(matches!(valve.submit(&data(0, 1000, 1), &memory, 0), Verdict::Held { need: 2, .. }));
}

#[test]
fn a_reused_slot_starts_afresh() {
    let (mut valve, memory) = bound();
    memory.set_word(0, SlotWord::new(9, 0));
    valve.submit(&data(0, 10, 4), &memory, 0);
    valve.release(0, &coverage(9, 14), &mut |_| {});
    assert_eq!(valve.discard(slice(0)), 0);
    valve.saw_syn(flow(0), 0, 0);
    let next = SliceId { slot: 0, incarnation: 8 };
    valve.bind(next, flow(0), 1).unwrap();
    // The old commit must not release the new slice's frames, though its generation would.
    assert_eq!(valve.submit(&data(0, 10, 4), &memory, 0), Verdict::Held { slice: next, need: 9 });
    assert!(released(&mut valve, 0, coverage(9, 14)).is_empty());
}

#[test]
fn a_word_that_goes_back_overtakes_nothing() {
    let (mut valve, memory) = bound();
    memory.set_word(0, SlotWord::new(5, 0));
    valve.release(0, &coverage(5, 100), &mut |_| {});
    memory.set_word(0, SlotWord::new(5, 1));
    let (first, second) = (data(0, 10, 4), data(0, 14, 4));
    assert!(matches!(valve.submit(&first, &memory, 0), Verdict::Held { need: 6, .. }));
    memory.set_word(0, SlotWord::new(4, 0));
    assert!(matches!(valve.submit(&second, &memory, 0), Verdict::Held { need: 4, .. }));
    assert!(released(&mut valve, 0, coverage(5, 100)).is_empty());
    assert_eq!(released(&mut valve, 0, coverage(6, 100)), [first, second]);
}

#[derive(Clone, Debug)]
enum Step {
    Word { slot: u32, refs: u16 },
    Submit { slot: u32 },
    Commit { slot: u32, lag: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u32..3, 0u16..2).prop_map(|(slot, refs)| Step::Word { slot, refs }),
        (0u32..3).prop_map(|slot| Step::Submit { slot }),
        (0u32..3, 0u64..4).prop_map(|(slot, lag)| Step::Commit { slot, lag }),
    ]
}

proptest! {
    /// Under any interleaving: frames leave in the order of emission (I6), each once, none before its need (I1), and
    /// another slice's commit never moves them.
    #[test]
    fn order_and_cover_hold_under_any_interleaving(steps in proptest::collection::vec(step(), 1..200)) {
        let (mut valve, memory) = bound();
        let (mut generation, mut sent, mut out) = ([1u64; 3], [0u32; 3], [0u32; 3]);
        let mut needs: [Vec<u64>; 3] = Default::default();
        let mut committed = [0u64; 3];
        for slot in 0..3 {
            memory.set_word(slot, SlotWord::new(1, 0));
        }
        for step in steps {
            match step {
                Step::Word { slot, refs } => {
                    generation[slot as usize] += 1;
                    memory.set_word(slot, SlotWord::new(generation[slot as usize], refs));
                }
                Step::Submit { slot } => {
                    let n = slot as usize;
                    match valve.submit(&data(slot, sent[n], 1), &memory, 0) {
                        Verdict::Held { need, .. } => needs[n].push(need),
                        Verdict::Send => {
                            prop_assert_eq!(out[n], sent[n], "overtook held output");
                            prop_assert!(generation[n] <= committed[n]);
                            needs[n].push(0);
                            out[n] += 1;
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                    sent[n] += 1;
                }
                Step::Commit { slot, lag } => {
                    let n = slot as usize;
                    let upto = generation[n].saturating_sub(lag);
                    committed[n] = committed[n].max(upto);
                    // The numbers are not the question here: the frontier lies beyond all frames.
                    let coverage = coverage(upto, 1000);
                    let mut seqs = Vec::new();
                    valve.release(slot, &coverage, &mut |frame| match parse(frame, Source::Guest) {
                        Frame::Tcp(segment) => seqs.push(segment.seq),
                        other => panic!("{other:?}"),
                    });
                    for seq in seqs {
                        prop_assert_eq!(seq, out[n]);
                        prop_assert!(needs[n][seq as usize] <= committed[n]);
                        out[n] += 1;
                    }
                }
            }
        }
    }
}
