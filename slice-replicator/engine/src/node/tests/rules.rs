//! One rule, one test.

use super::*;

#[test]
fn a_release_needs_the_recorded_standbys_acknowledgement() {
    let mut rig = Rig::paired();
    let out = rig.capture(BodyKind::Create, 1);
    assert!(matches!(out[..], [Command::Send { to: PEER, head }] if head.no.0 == 1 && head.epoch == Epoch(2)));
    let amnesiac = Member { inc: Incarnation(6), ..PEER };
    assert_eq!(rig.ack(amnesiac, 2, 1, chain(1)), [], "another incarnation");
    assert_eq!(rig.ack(PEER, 1, 1, chain(1)), [], "an older epoch");
    assert!(matches!(rig.ack(PEER, 2, 1, chain(9))[..], [Command::Diverged { .. }]), "another hash");
    assert_eq!(released(&rig.ack(PEER, 2, 1, chain(1))), Some(1));
    rig.capture(BodyKind::Delta, 2);
    rig.capture(BodyKind::Delta, 5);
    assert_eq!(released(&rig.ack(PEER, 2, 3, chain(5))), Some(5), "acknowledgements are cumulative");
}

#[test]
fn after_a_broken_link_a_full_copy_goes_first() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    rig.on(Event::PeerDown(PEER));
    assert_eq!(rig.capture(BodyKind::Delta, 2), [], "there is nobody to send to, and nothing may leave");
    let out = rig.on(Event::PeerUp(PEER));
    assert!(matches!(out[..], [Command::SendFull { to: PEER, head }] if head.no.0 == 2 && head.kind == BodyKind::Full));
    assert!(matches!(rig.capture(BodyKind::Delta, 3)[..], [Command::Send { head, .. }] if head.base.0 == 2));
    assert_eq!(released(&rig.ack(PEER, 2, 2, chain(2))), Some(2));
}

#[test]
fn a_standby_acknowledges_what_is_applied_and_only_at_its_records_epoch() {
    let mut rig = Rig::joined();
    let from = PEER;
    let early = rig.on(Event::Checkpoint { from, head: head(2, 1, BodyKind::Create), body: 1 });
    assert_eq!(early, [], "it waits for the record");
    let out = rig.record(GroupRecord::fresh(G, PEER).paired_with(ME));
    assert_eq!(out, [Command::Apply { from, head: head(2, 1, BodyKind::Create), body: 1 }]);
    let out = rig.on(Event::Applied { from, head: head(2, 1, BodyKind::Create), result: Ok(()) });
    assert!(matches!(out[..], [Command::SendAck { to: PEER, ack }] if ack.no.0 == 1 && ack.epoch == Epoch(2)));
    let out = rig.on(Event::Checkpoint { from, head: head(1, 2, BodyKind::Delta), body: 2 });
    let [Command::DropBody { body: 2 }, Command::SendRefusal { refusal, .. }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(refusal.cause, RefusalCause::Deposed { current: Epoch(2) });
    let stranger = Member { node: NodeId(2), inc: Incarnation(1) };
    let out = rig.on(Event::Checkpoint { from: stranger, head: head(2, 2, BodyKind::Delta), body: 3 });
    assert!(matches!(&out[1], Command::SendRefusal { refusal, .. } if refusal.cause == RefusalCause::NotOwner));
    let twice = rig.on(Event::Checkpoint { from, head: head(2, 1, BodyKind::Create), body: 4 });
    assert!(matches!(twice[..], [Command::DropBody { body: 4 }, Command::SendAck { .. }]));
}

#[test]
fn a_promoted_standby_gates_before_it_flips_and_releases_after_the_flip() {
    let mut rig = Rig::joined();
    rig.record(GroupRecord::fresh(G, PEER).paired_with(ME));
    let first = head(2, 1, BodyKind::Create);
    rig.on(Event::Checkpoint { from: PEER, head: first, body: 1 });
    // The record comes while the checkpoint is being applied: it is part of what is activated, and not acknowledged.
    assert_eq!(rig.record(GroupRecord::fresh(G, PEER).paired_with(ME).handed_to(ME)), []);
    let out = rig.on(Event::Applied { from: PEER, head: first, result: Ok(()) });
    assert!(matches!(&out[..], [Command::Activate { epoch: Epoch(3), slices, .. }] if slices[0].no.0 == 1), "{out:?}");
    let out = rig.on(Event::GateClosed { group: G, epoch: Epoch(3) });
    assert!(matches!(out[..], [Command::RequestFlip { .. }, Command::Plug { .. }]));
    let out = rig.on(Event::Plugged { group: G, slice: SLICE, ok: true });
    assert!(matches!(out[..2], [Command::OpenGate { .. }, Command::OpenGroup { .. }]));
    assert_eq!(released(&rig.capture(BodyKind::Delta, 2)), None, "not steered here yet");
    assert_eq!(released(&rig.on(Event::Flipped { group: G, epoch: Epoch(3) })), Some(2));
}

#[test]
fn after_a_pause_nothing_leaves_before_the_standby_has_answered() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    rig.now += 1_000_000;
    let out = rig.ack(PEER, 2, 1, chain(1));
    let [Command::SendProbe { to: PEER, nonce, .. }] = out[..] else { panic!("{out:?}") };
    let answer = |nonce| Event::ProbeReply { from: PEER, group: G, epoch: Epoch(2), nonce, standing_by: true };
    assert_eq!(released(&rig.on(answer(nonce - 1))), None, "the answer to another question");
    assert_eq!(released(&rig.on(answer(nonce))), Some(1));
}

#[test]
fn a_deposed_owner_drops_the_group_in_silence() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    let out = rig.record(GroupRecord::fresh(G, ME).paired_with(PEER).handed_to(PEER));
    assert_eq!(out, [Command::DropGroup { group: G, slices: vec![SLICE] }]);
    assert_eq!(rig.ack(PEER, 2, 1, chain(1)), []);
    let dead = NodeRecord { state: NodeState::Dead, ..up(ME, "a") };
    assert_eq!(
        rig.on(Event::Records { nodes: vec![dead], groups: vec![], quarantine: vec![], moves: vec![], buckets: None }),
        [Command::Rejoin]
    );
    assert_eq!(rig.engine.me(), None);
}

/// A node whose life is over, and its next one, which goes on with these groups.
fn next_life(mut rig: Rig, claimed: Vec<GroupId>) -> (Rig, Vec<Command>) {
    let dead = NodeRecord { state: NodeState::Dead, ..up(ME, "a") };
    let out =
        rig.on(Event::Records { nodes: vec![dead], groups: vec![], quarantine: vec![], moves: vec![], buckets: None });
    assert_eq!(out.last(), Some(&Command::Rejoin));
    let late = rig.on(Event::Checkpoint { from: PEER, head: head(2, 9, BodyKind::Full), body: 9 });
    assert_eq!(late, [Command::DropBody { body: 9 }], "nobody acknowledges between two lives (R8)");
    let me = Member { inc: Incarnation(ME.inc.0 + 1), ..ME };
    let out = rig.on(Event::Joined { me, claimed, moves: vec![] });
    (rig, out)
}

#[test]
fn the_next_life_goes_on_from_the_images_of_what_it_claims_and_frees_the_rest() {
    let me = Member { inc: Incarnation(ME.inc.0 + 1), ..ME };
    let owner = || {
        let mut rig = Rig::paired();
        rig.capture(BodyKind::Create, 1);
        rig.capture(BodyKind::Delta, 2);
        rig
    };
    let standby = || {
        let mut rig = Rig::joined();
        rig.record(GroupRecord::fresh(G, PEER).paired_with(ME));
        for (body, head) in [(1, head(2, 1, BodyKind::Create)), (2, head(2, 2, BodyKind::Delta))] {
            rig.on(Event::Checkpoint { from: PEER, head, body });
            rig.on(Event::Applied { from: PEER, head, result: Ok(()) });
        }
        rig
    };
    for (rig, owner) in [(owner(), ME), (standby(), PEER)] {
        let (mut rig, out) = next_life(rig, vec![G]);
        assert_eq!(out, []);
        let pair = GroupRecord::fresh(G, owner).paired_with(if owner == ME { PEER } else { ME });
        let nodes = vec![up(me, "a")];
        let out = rig.on(Event::Records {
            nodes,
            groups: vec![pair.handed_to(me)],
            quarantine: vec![],
            moves: vec![],
            buckets: None,
        });
        assert!(
            matches!(&out[..], [Command::Activate { epoch: Epoch(3), slices, .. }] if slices[0].no.0 == 2),
            "{out:?}"
        );
    }
    let (rig, out) = next_life(owner(), vec![GroupId(8)]);
    assert_eq!((out, rig.engine.tally().standby), (vec![Command::FreeImage { slice: SLICE }], 0));
}

#[test]
fn a_close_that_was_not_committed_is_committed_by_the_next_life() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    rig.capture(BodyKind::Close, 2);
    let (mut rig, _) = next_life(rig, vec![G]);
    let me = Member { inc: Incarnation(ME.inc.0 + 1), ..ME };
    let record = GroupRecord::fresh(G, ME).paired_with(PEER).handed_to(me);
    let out = rig.on(Event::Records {
        nodes: vec![up(me, "a")],
        groups: vec![record],
        quarantine: vec![],
        moves: vec![],
        buckets: None,
    });
    assert!(matches!(&out[..], [Command::Activate { slices, .. }] if slices.is_empty()), "{out:?}");
    rig.on(Event::GateClosed { group: G, epoch: Epoch(3) });
    let out = rig.on(Event::Flipped { group: G, epoch: Epoch(3) });
    assert!(out.contains(&Command::Closed { group: G, slice: SLICE }), "{out:?}");
}

#[test]
fn a_report_names_the_leases_of_own_slices_images_and_what_waits() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    let other = |slot, epoch| CheckpointHead {
        group: GroupId(8),
        slice: SliceId { slot, inc: 1 },
        ..head(epoch, 1, BodyKind::Create)
    };
    rig.record(GroupRecord { group: GroupId(8), ..GroupRecord::fresh(G, PEER) }.paired_with(ME));
    for (slot, epoch) in [(64, 2), (128, 9)] {
        rig.on(Event::Checkpoint { from: PEER, head: other(slot, epoch), body: u64::from(slot) });
    }
    rig.on(Event::Applied { from: PEER, head: other(64, 2), result: Ok(()) });
    let report = |free_slots| rig.engine.lease_report(LeaseUse { active: 2, free_slots, ..LeaseUse::default() });
    let report = [0, 64].map(|free| report(free).unwrap());
    assert_eq!((report[0].wanted, report[1].wanted), (3, 2));
    assert_eq!([0, 1, 2, 3].map(|l| report[0].held.contains(LeaseId(l))), [true, true, true, false]);
    assert_eq!(report[0].mark, records_mark(rig.engine.group_records()));
}

#[test]
fn a_slice_that_was_given_up_is_told_to_the_standby_and_to_the_store_until_it_knows() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    rig.ack(PEER, 2, 1, chain(1));
    let out = rig.on(Event::Quarantined { group: G, slice: SLICE, cause: "lies".to_owned() });
    let suspect = Suspect { group: G, slice: SLICE };
    let told = Command::ReportQuarantine { suspect, cause: "lies".to_owned() };
    assert_eq!(out, [Command::SendQuarantine { to: PEER, group: G, epoch: Epoch(2), slice: SLICE }, told.clone()]);
    rig.now += 100_000;
    assert!(rig.on(Event::Tick).contains(&told), "the report may have been lost");
    let known = QuarantineRecord { given_up: true, ..QuarantineRecord::of(suspect, ME) };
    rig.on(Event::Records { nodes: vec![], groups: vec![], quarantine: vec![known], moves: vec![], buckets: None });
    rig.now += 100_000;
    assert!(!rig.on(Event::Tick).contains(&told));
}

#[test]
fn a_standby_drops_what_its_owner_gave_up_and_never_takes_it_again() {
    let first = head(2, 1, BodyKind::Create);
    let suspect = Suspect { group: G, slice: SLICE };
    let standby = || {
        let mut rig = Rig::joined();
        rig.record(GroupRecord::fresh(G, PEER).paired_with(ME));
        rig.on(Event::Checkpoint { from: PEER, head: first, body: 1 });
        rig.on(Event::Applied { from: PEER, head: first, result: Ok(()) });
        rig
    };
    let said = |from, epoch| Event::PeerQuarantined { from, group: G, epoch: Epoch(epoch), slice: SLICE };
    let record = QuarantineRecord { given_up: true, ..QuarantineRecord::of(suspect, PEER) };
    let stored =
        |quarantine| Event::Records { nodes: vec![], groups: vec![], quarantine, moves: vec![], buckets: None };
    let other_group = QuarantineRecord { group: GroupId(8), ..record.clone() };
    let mut rig = standby();
    let stranger = Member { node: NodeId(2), inc: Incarnation(1) };
    for word in [said(stranger, 2), said(PEER, 1), stored(vec![other_group])] {
        assert_eq!(rig.on(word.clone()), [], "{word:?}");
    }
    for word in [said(PEER, 2), stored(vec![record])] {
        let mut rig = standby();
        assert_eq!(rig.on(word), [Command::FreeImage { slice: SLICE }]);
        let out = rig.on(Event::Checkpoint { from: PEER, head: head(2, 2, BodyKind::Full), body: 2 });
        assert!(matches!(&out[1], Command::SendRefusal { refusal, .. } if refusal.cause == RefusalCause::Quarantined));
        let out = rig.record(GroupRecord::fresh(G, PEER).paired_with(ME).handed_to(ME));
        assert!(matches!(&out[..], [Command::Activate { slices, .. }, ..] if slices.is_empty()), "{out:?}");
    }
}

#[test]
fn suspects_are_plugged_after_all_others_and_one_at_a_time() {
    let mut rig = Rig::joined();
    rig.record(GroupRecord::fresh(G, PEER).paired_with(ME));
    let of_slot = |slot| CheckpointHead { slice: SliceId { slot, inc: 1 }, ..head(2, 1, BodyKind::Create) };
    for slot in 0..4 {
        rig.on(Event::Checkpoint { from: PEER, head: of_slot(slot), body: u64::from(slot) });
        rig.on(Event::Applied { from: PEER, head: of_slot(slot), result: Ok(()) });
    }
    let suspect = |slot| QuarantineRecord::of(Suspect { group: G, slice: SliceId { slot, inc: 1 } }, PEER);
    let groups = vec![GroupRecord::fresh(G, PEER).paired_with(ME).handed_to(ME)];
    rig.on(Event::Records {
        nodes: vec![],
        groups,
        quarantine: vec![suspect(0), suspect(2)],
        moves: vec![],
        buckets: None,
    });
    let plugs = |out: Vec<Command>| -> Vec<u32> {
        let slices = out.into_iter().filter_map(|c| match c {
            Command::Plug { slices, .. } => Some(slices),
            _ => None,
        });
        slices.flatten().map(|p| p.slice.slot).collect()
    };
    let plugged = |slot| Event::Plugged { group: G, slice: SliceId { slot, inc: 1 }, ok: true };
    assert_eq!(plugs(rig.on(Event::GateClosed { group: G, epoch: Epoch(3) })), [1, 3]);
    assert_eq!(plugs(rig.on(plugged(1))), []);
    assert_eq!(plugs(rig.on(plugged(3))), [0]);
    rig.now += 30_000;
    assert_eq!(plugs(rig.on(Event::Tick)), [], "the first is not decided");
    assert_eq!(plugs(rig.on(plugged(0))), [2]);
    let out = rig.on(plugged(2));
    assert!(out.contains(&Command::OpenGroup { group: G }), "{out:?}");
}

#[test]
fn hostile_heads_are_refused() {
    let mut rig = Rig::joined();
    rig.record(GroupRecord::fresh(G, PEER).paired_with(ME));
    let good = head(2, 1, BodyKind::Create);
    let hostile = [
        CheckpointHead { no: CheckpointNo(0), ..good },
        CheckpointHead { no: CheckpointNo(u64::MAX), ..good },
        CheckpointHead { kind: BodyKind::Delta, base: CheckpointNo(9), ..good },
        CheckpointHead { slice: SliceId { slot: u32::MAX, inc: 1 }, ..good },
    ];
    for (body, head) in (1..).zip(hostile) {
        let out = rig.on(Event::Checkpoint { from: PEER, head, body });
        assert!(matches!(out[..], [Command::DropBody { .. }, Command::SendRefusal { .. }]), "{head:?}: {out:?}");
    }
    // The waiting room is bounded, and a link's end empties it.
    let later = |no| CheckpointHead { epoch: Epoch(9), no: CheckpointNo(no), ..good };
    for no in 1..=64 {
        assert_eq!(rig.on(Event::Checkpoint { from: PEER, head: later(no), body: no }), []);
    }
    let out = rig.on(Event::Checkpoint { from: PEER, head: later(65), body: 65 });
    assert!(matches!(&out[1], Command::SendRefusal { refusal, .. } if refusal.cause == RefusalCause::Unknown));
    assert_eq!(rig.on(Event::PeerDown(PEER)).len(), 64);
}

/// Found by the simulator: a full copy on a slow channel came after the CLOSE that was sent later.
#[test]
fn a_copy_that_comes_after_the_close_does_not_bring_the_slice_back() {
    let mut rig = Rig::joined();
    let from = PEER;
    rig.record(GroupRecord::fresh(G, PEER).paired_with(ME));
    for (body, head) in [(1, head(2, 1, BodyKind::Create)), (2, head(2, 2, BodyKind::Close))] {
        rig.on(Event::Checkpoint { from, head, body });
        rig.on(Event::Applied { from, head, result: Ok(()) });
    }
    assert_eq!(rig.engine.tally().standby, 0);
    let out = rig.on(Event::Checkpoint { from, head: head(2, 1, BodyKind::Full), body: 3 });
    assert!(matches!(out[..], [Command::DropBody { body: 3 }, Command::SendAck { ack, .. }] if ack.no.0 == 2));
    let out = rig.record(GroupRecord::fresh(G, PEER).paired_with(ME).handed_to(ME));
    assert!(matches!(&out[..], [Command::Activate { slices, .. }] if slices.is_empty()), "{out:?}");
}

/// The budget of the commit path is about 1 µs per event; the limit here is loose, for a busy machine.
#[test]
fn the_commit_path_is_quick_and_does_not_allocate_commands() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    rig.ack(PEER, 2, 1, chain(1));
    let mut out = Vec::with_capacity(8);
    let rounds = 100_000u64;
    let start = std::time::Instant::now();
    for n in 2..rounds + 2 {
        let chain = ChainHash([n as u8; 32]);
        let event = Event::Captured {
            group: G,
            slice: SLICE,
            kind: BodyKind::Delta,
            generation: n,
            rcv_covered: 0,
            flow: FLOW,
            chain,
        };
        rig.engine.on(rig.now, event, &mut out);
        let ack = Ack { group: G, epoch: Epoch(2), slice: SLICE, no: CheckpointNo(n), chain };
        rig.engine.on(rig.now, Event::Acked { from: PEER, ack }, &mut out);
        assert_eq!(out.len(), 2);
        out.clear();
    }
    let per_event = start.elapsed().as_nanos() / u128::from(2 * rounds);
    println!("{per_event} ns per event");
    assert_eq!(out.capacity(), 8);
    assert!(per_event < 20_000, "{per_event} ns per event");
}

#[test]
fn output_that_repeats_an_old_state_leaves_once_the_owner_knows_again_that_it_owns() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    assert_eq!(released(&rig.ack(PEER, 2, 1, chain(1))), Some(1));
    rig.now += 1_000_000;
    let out = rig.on(Event::Tick);
    let nonce = out.iter().find_map(|c| match c {
        Command::SendProbe { nonce, .. } => Some(*nonce),
        _ => None,
    });
    let nonce = nonce.expect("after a pause the standby is asked");
    // The guest sends its last reply once more: nothing has changed but the number of the capture.
    let chain = chain(2);
    let (kind, generation) = (BodyKind::Delta, 1);
    rig.on(Event::Captured { group: G, slice: SLICE, kind, generation, rcv_covered: 0, flow: FLOW, chain });
    assert_eq!(released(&rig.ack(PEER, 2, 2, chain)), None, "not before the answer");
    let answer = Event::ProbeReply { from: PEER, group: G, epoch: Epoch(2), nonce, standing_by: true };
    assert_eq!(released(&rig.on(answer)), Some(1));
}

/// The suspect that was plugged last comes back with its group: that it waits must not be taken for its being on its way.
#[test]
fn a_suspect_that_comes_back_to_the_node_that_plugged_it_last_is_plugged_again() {
    let mut rig = Rig::joined();
    let slice = SliceId { slot: 0, inc: 1 };
    let to_me = |epoch: u64| {
        let kept = GroupRecord { epoch: Epoch(epoch), ..GroupRecord::fresh(G, PEER).paired_with(ME) };
        (kept, kept.handed_to(ME))
    };
    let suspect = QuarantineRecord::of(Suspect { group: G, slice }, PEER);
    rig.on(Event::Records { nodes: vec![], groups: vec![], quarantine: vec![suspect], moves: vec![], buckets: None });
    for epoch in [2, 4] {
        let (kept, handed) = to_me(epoch);
        rig.record(kept);
        let head = CheckpointHead { slice, ..head(epoch, 1, BodyKind::Create) };
        rig.on(Event::Checkpoint { from: PEER, head, body: epoch });
        rig.on(Event::Applied { from: PEER, head, result: Ok(()) });
        rig.record(handed);
        let mut out = rig.on(Event::GateClosed { group: G, epoch: handed.epoch });
        rig.now += 30_000;
        out.extend(rig.on(Event::Tick));
        let plugs = |c: &&Command| matches!(c, Command::Plug { slices, .. } if slices[0].slice == slice);
        assert_eq!(out.iter().filter(plugs).count(), 1, "epoch {epoch}: {out:?}");
        rig.on(Event::Plugged { group: G, slice, ok: true });
    }
}
