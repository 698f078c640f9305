//! Full copies and the slices that they concern: none is left out, whatever ends meanwhile.

use super::*;

#[test]
fn full_copies_to_a_candidate_wait_for_their_share_of_the_link() {
    let mut rig = Rig::joined();
    rig.record(GroupRecord::fresh(G, ME));
    rig.on(Event::GateClosed { group: G, epoch: Epoch(1) });
    rig.on(Event::Flipped { group: G, epoch: Epoch(1) });
    for slot in 0..6 {
        let (slice, flow) = (SliceId { slot, inc: 1 << 32 }, Flow { port: 5_000 + slot as u16, ..FLOW });
        let (kind, chain) = (BodyKind::Create, chain(1));
        rig.on(Event::Captured { group: G, slice, kind, generation: 1, rcv_covered: 0, flow, chain });
    }
    let copies = |out: &[Command]| {
        let is_copy = |c: &&Command| matches!(c, Command::SendFull { to: PEER, .. });
        out.iter().filter(is_copy).count()
    };
    // Longer than a candidate may be silent.
    let until = 3_000_000;
    rig.on(Event::BulkPaused { until });
    assert_eq!(copies(&rig.on(Event::PeerUp(PEER))), 0);
    while rig.now + 5_000 < until {
        rig.now += 4_900;
        assert_eq!(copies(&rig.on(Event::Tick)), 0, "at {}", rig.now);
    }
    rig.now = until;
    assert_eq!(
        copies(&rig.on(Event::Tick)),
        4,
        "the candidate is not given up, and gets as many as may be on their way"
    );
}

#[test]
fn what_the_recorded_standby_lacks_does_not_wait_for_a_share_of_the_link() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    rig.on(Event::BulkPaused { until: 1_000_000 });
    rig.on(Event::PeerDown(PEER));
    assert!(matches!(rig.on(Event::PeerUp(PEER))[..], [Command::SendFull { to: PEER, .. }]));
}

/// A paired group with six slices, of which the standby has nothing after a broken link; the slots that full copies were
/// sent of, by `copies`.
fn six_behind() -> (Rig, Vec<u32>) {
    let mut rig = Rig::paired();
    for slot in 0..6 {
        let (slice, flow) = (SliceId { slot, inc: 1 << 32 }, Flow { port: 5_000 + slot as u16, ..FLOW });
        let (kind, chain) = (BodyKind::Create, chain(1));
        rig.on(Event::Captured { group: G, slice, kind, generation: 1, rcv_covered: 0, flow, chain });
    }
    rig.on(Event::PeerDown(PEER));
    let sent = copies(&rig.on(Event::PeerUp(PEER)));
    (rig, sent)
}

fn copies(out: &[Command]) -> Vec<u32> {
    let copy = |c: &Command| match c {
        Command::SendFull { to: PEER, head } => Some(head.slice.slot),
        _ => None,
    };
    out.iter().filter_map(copy).collect()
}

fn give_up(rig: &mut Rig, slot: u32) -> Vec<u32> {
    let slice = SliceId { slot, inc: 1 << 32 };
    copies(&rig.on(Event::Quarantined { group: G, slice, cause: "lies".to_owned() }))
}

#[test]
fn a_slice_that_takes_the_place_of_one_that_ended_still_gets_its_full_copy() {
    let (mut rig, mut sent) = six_behind();
    assert_eq!(sent, [0, 1, 2, 3], "as many as may be on their way");
    // The last slice takes the first one's place, which the copies have passed.
    sent.extend(give_up(&mut rig, 0));
    for slot in 1..4 {
        let slice = SliceId { slot, inc: 1 << 32 };
        let ack = Ack { group: G, epoch: Epoch(2), slice, no: CheckpointNo(1), chain: chain(1) };
        sent.extend(copies(&rig.on(Event::Acked { from: PEER, ack })));
    }
    sent.sort_unstable();
    assert_eq!(sent, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn full_copies_go_on_when_all_that_were_on_their_way_belong_to_slices_that_ended() {
    let (mut rig, mut sent) = six_behind();
    for slot in 0..4 {
        sent.extend(give_up(&mut rig, slot));
    }
    sent.extend(copies(&rig.on(Event::Tick)));
    sent.sort_unstable();
    assert_eq!(sent, [0, 1, 2, 3, 4, 5]);
}

/// A candidate that is slow keeps slices that have ended in the ledger. The slot must not be given out again when the ledger has
/// no place for its next one: whoever got it would never be captured.
#[test]
fn a_slot_full_of_slices_that_ended_is_not_given_back() {
    let mut rig = Rig::joined();
    rig.record(GroupRecord::fresh(G, ME));
    rig.on(Event::GateClosed { group: G, epoch: Epoch(1) });
    rig.on(Event::Flipped { group: G, epoch: Epoch(1) });
    // One whose copy stays on its way keeps the group from naming the candidate.
    let (slice, flow) = (SliceId { slot: 1, inc: 1 << 32 }, Flow { port: 5_000, ..FLOW });
    let (kind, first) = (BodyKind::Create, chain(1));
    rig.on(Event::Captured { group: G, slice, kind, generation: 1, rcv_covered: 0, flow, chain: first });
    assert_eq!(copies(&rig.on(Event::PeerUp(PEER))), [1]);
    let short = |rig: &mut Rig, inc: u64| -> bool {
        let slice = SliceId { inc: 1 << 32 | inc, ..SLICE };
        let mut closed = false;
        for (generation, kind) in [(1, BodyKind::Create), (2, BodyKind::Close)] {
            let (flow, chain) = (FLOW, chain(generation));
            let event = Event::Captured { group: G, slice, kind, generation, rcv_covered: 0, flow, chain };
            let out = rig.on(event);
            assert!(
                out.iter().any(|c| matches!(c, Command::Send { to: PEER, head } if head.slice == slice)),
                "{inc}: {out:?}"
            );
            closed |= out.iter().any(|c| matches!(c, Command::Closed { slice: s, .. } if *s == slice));
        }
        closed
    };
    assert!((1..4).all(|inc| short(&mut rig, inc)));
    assert!(!short(&mut rig, 4), "a fifth would have no place");
    let first = SliceId { inc: 1 << 32 | 1, ..SLICE };
    let ack = Ack { group: G, epoch: Epoch(1), slice: first, no: CheckpointNo(2), chain: chain(2) };
    rig.on(Event::Acked { from: PEER, ack });
    let out = rig.on(Event::Tick);
    assert!(out.iter().any(|c| matches!(c, Command::Closed { slice, .. } if slice.inc == 1 << 32 | 4)), "{out:?}");
    assert!(!short(&mut rig, 5), "full again");
}

/// On a slow link many checkpoints follow a full copy before it is acknowledged, more than are remembered; and one of them came
/// before it, and was refused.
#[test]
fn a_full_copy_that_many_checkpoints_have_followed_is_still_heard_of() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    rig.on(Event::PeerDown(PEER));
    assert_eq!(copies(&rig.on(Event::PeerUp(PEER))), [SLICE.slot]);
    (2..20).for_each(|n| assert!(matches!(rig.capture(BodyKind::Delta, n)[..], [Command::Send { to: PEER, .. }])));
    let refusal = Refusal {
        group: G,
        epoch: Epoch(2),
        slice: SLICE,
        no: CheckpointNo(2),
        cause: RefusalCause::NeedFull { have: CheckpointNo(0) },
    };
    assert_eq!(copies(&rig.on(Event::Refused { from: PEER, refusal })), [] as [u32; 0], "the copy is on its way");
    assert_eq!(copies(&rig.ack(PEER, 2, 99, chain(1))), [] as [u32; 0], "of none that was sent");
    assert_eq!(copies(&rig.ack(PEER, 2, 1, chain(1))), [SLICE.slot], "what followed it was lost");
    assert_eq!(released(&rig.ack(PEER, 2, 19, chain(19))), Some(19));
}
