//! Frames of a kernel ([`Rule::Numbers`]): they wait for numbers, their connections open, end, and are segmented.

use super::*;

/// The guest's kernel has the TCP state.
fn numbers_bound() -> (Valve, TestMemory) {
    bound_with(ValveConfig { rule: Rule::Numbers, ..config() })
}

#[test]
fn a_kernels_frames_wait_for_the_numbers_of_a_commit() {
    let (mut valve, memory) = numbers_bound();
    memory.set_word(0, SlotWord::new(5, 0));
    let early_ack = FrameBuilder::new(flow(0)).seq(14).ack(60).sent_by_guest();
    assert!(matches!(valve.submit(&early_ack, &memory, 0), Verdict::Held { need: 5, .. }));
    assert_eq!(valve.next_waiting(), Some(slice(0)));
    valve.note_captured(slice(0), 5);
    assert!(released(&mut valve, 0, coverage(5, 14)).is_empty(), "the program has read up to 50");
    assert_eq!(valve.next_waiting(), None, "nothing new to capture until the guest says so");
    assert!(!valve.is_quarantined(slice(0)));
    // The commit is there, and what the next frame carries is not in it: it waits too.
    let more = data(0, 14, 4);
    assert!(matches!(valve.submit(&more, &memory, 0), Verdict::Held { need: 5, .. }));
    let mut connections = Connections::one(flow(0), 60, 18);
    assert_eq!(released(&mut valve, 0, Coverage { incarnation: 7, generation: 6, connections }), [early_ack, more]);
    memory.set_word(0, SlotWord::new(6, 0));
    assert_eq!(valve.submit(&data(0, 14, 4), &memory, 0), Verdict::Send, "sent again, and covered");
    assert!(matches!(valve.submit(&data(0, 14, 5), &memory, 0), Verdict::Held { need: 6, .. }));
    connections = Connections::one(flow(0), 60, 19);
    assert_eq!(released(&mut valve, 0, Coverage { incarnation: 7, generation: 7, connections }), [data(0, 14, 5)]);
}

/// TCP-FAILOVER, T14: a process dies that has not read all; its kernel has acknowledged that, and resets the connection. The acknowledgement
/// was held for ever, and the reset behind it.
#[test]
fn t14_a_kernels_reset_leaves_behind_held_frames_when_the_end_is_committed() {
    let (mut valve, memory) = numbers_bound();
    memory.set_word(0, SlotWord::new(5, 0));
    let answer = FrameBuilder::new(flow(0)).seq(10).ack(60).flags(ALL).payload(&[1; 4]).sent_by_guest();
    let beyond = FrameBuilder::new(flow(0)).seq(14).ack(60).flags(ALL).payload(&[1; 4]).sent_by_guest();
    let reset = FrameBuilder::new(flow(0)).seq(18).ack(60).flags(TcpFlags::RST | TcpFlags::ACK).sent_by_guest();
    for frame in [&answer, &reset] {
        assert!(matches!(valve.submit(frame, &memory, 0), Verdict::Held { .. }));
    }
    assert!(released(&mut valve, 0, coverage(5, 14)).is_empty(), "the program has read up to 50");
    let over = |generation, snd_nxt| {
        let mut coverage = coverage(generation, snd_nxt);
        let flow = flow(0);
        coverage.connections.set(0, Connection { flow, serial: 0, snd_nxt, rcv_nxt: 50, ended: true });
        coverage
    };
    assert_eq!(released(&mut valve, 0, over(6, 14)), [answer, reset.clone()]);
    // What it carries must be in the commit all the same.
    let (mut valve, memory) = numbers_bound();
    for frame in [&beyond, &reset] {
        assert!(matches!(valve.submit(frame, &memory, 0), Verdict::Held { .. }));
    }
    assert!(released(&mut valve, 0, over(6, 14)).is_empty());
    assert_eq!(released(&mut valve, 0, over(7, 18)), [beyond, reset]);
}

#[test]
fn a_kernels_answer_to_a_syn_waits_for_its_binding_and_the_first_commit() {
    let mut valve = Valve::new(ValveConfig { rule: Rule::Numbers, ..config() });
    let memory = TestMemory::new(4);
    let syn = FrameBuilder::new(flow(3)).seq(900).flags(TcpFlags::SYN).options(&[2, 4, 5, 0xb4]).sent_by_client();
    let Frame::Tcp(segment) = parse(&syn, Source::Client) else { panic!("no segment") };
    let both = TcpFlags::SYN | TcpFlags::ACK;
    let answer = |ack| FrameBuilder::new(flow(3)).seq(100).ack(ack).flags(both).sent_by_guest();
    let unbound = Verdict::Dropped(DropCause::Unbound);
    assert_eq!(valve.submit(&answer(901), &memory, 0), unbound, "no SYN was seen");
    valve.saw_syn_frame(&segment, &syn, 0);
    assert_eq!(valve.submit(&answer(902), &memory, 0), unbound, "not the answer to that SYN");
    assert_eq!(valve.submit(&data(3, 101, 4), &memory, 0), unbound);
    let Verdict::Opening { flow: told, numbers } = valve.submit(&answer(901), &memory, 0) else { panic!("not told") };
    assert_eq!((told, numbers.iss, numbers.irs, numbers.mss, numbers.flags), (flow(3), 100, 900, 1460, 0));
    assert_eq!(valve.submit(&answer(901), &memory, 9), Verdict::Dropped(DropCause::Duplicate));
    valve.bind(slice(2), flow(3), 9).unwrap();
    assert_eq!((valve.held_frames(2), valve.next_waiting()), (1, Some(slice(2))));
    let connections = Connections::one(flow(3), 901, 101);
    assert_eq!(released(&mut valve, 2, Coverage { incarnation: 7, generation: 1, connections }), [answer(901)]);
    assert_eq!(valve.held_bytes(), 0);
}

#[test]
fn answers_that_nobody_binds_are_bounded_and_expire() {
    use crate::commit::openings::OPENINGS_MAX;
    let mut valve = Valve::new(ValveConfig { rule: Rule::Numbers, ..config() });
    let memory = TestMemory::new(4);
    for round in 0..3u64 {
        let now = round * 10_000_000;
        for port in 0..OPENINGS_MAX as u16 + 1 {
            valve.saw_syn(flow(port), 900, now);
            let both = TcpFlags::SYN | TcpFlags::ACK;
            let answer = FrameBuilder::new(flow(port)).seq(100).ack(901).flags(both).sent_by_guest();
            let verdict = valve.submit(&answer, &memory, now);
            if usize::from(port) < OPENINGS_MAX {
                assert!(matches!(verdict, Verdict::Opening { .. }), "{round} {port} {verdict:?}");
            } else {
                assert_eq!(verdict, Verdict::Dropped(DropCause::VmQuota));
            }
        }
        assert!(valve.held_bytes() > 0);
        assert_eq!(valve.expire(now + 5_000_001), OPENINGS_MAX as u64);
        assert_eq!(valve.held_bytes(), 0);
    }
}

/// Segmentation is left to the tap (T20): the frame is one in the valve, waits for its last byte, and leaves whole.
#[test]
fn a_frame_that_is_to_be_segmented_is_one_frame() {
    const PAYLOAD: usize = 65_535 - 40;
    let large = |seq| {
        let mut frame = data(1, seq, PAYLOAD);
        // Checksum and segments of 1,448 bytes, as a Linux driver asks for them.
        frame[..12].copy_from_slice(&[1, 1, 0, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
        frame
    };
    let (mut valve, memory) = bound_with(ValveConfig { rule: Rule::Numbers, ..config() });
    let (first, second) = (large(100), large(100 + PAYLOAD as u32));
    for frame in [&first, &second] {
        assert!(matches!(valve.submit(frame, &memory, 0), Verdict::Held { .. }));
    }
    assert_eq!(valve.held_frames(1), 2);
    let mut left = Vec::new();
    let middle = coverage(1, 100 + PAYLOAD as u32 - 1);
    assert_eq!(valve.release(1, &middle, &mut |f| left.push(f.to_vec())).frames, 0, "not before its last byte");
    let whole = coverage(2, 100 + PAYLOAD as u32);
    assert_eq!(valve.release(1, &whole, &mut |f| left.push(f.to_vec())).frames, 1);
    assert_eq!(left, [first], "byte for byte");
    // Its header must fit the segment: what it asks of the host's kernel was classified too.
    for (at, value) in [(6, 30), (8, 4), (1, 4)] {
        let mut lie = large(100);
        lie[at] = value;
        assert!(matches!(valve.submit(&lie, &memory, 0), Verdict::Dropped(DropCause::Unparsable)), "byte {at}");
    }
}
