//! T9, rule by rule.

use super::{G, ME, PEER, Rig, SLICE, chain, head, released, up};
use crate::node::{Command, Event};
use escape_proto::{
    BodyKind, CheckpointNo, Epoch, GroupId, GroupRecord, Incarnation, Member, MoveAnswer, MoveOutcome, MoveRecord,
    NodeId, Refusal, RefusalCause,
};

/// The group that the move makes.
const H: GroupId = GroupId(12);

fn ask(rig: &mut Rig) -> Vec<Command> {
    rig.on(Event::MoveAsked { request: 4, slices: vec![SLICE], to: None })
}

fn moved(by: Member, attempt: u64, waits_for: Vec<Member>) -> MoveRecord {
    MoveRecord { to: H, from: G, slices: vec![SLICE], by, attempt, waits_for }
}

fn records(groups: Vec<GroupRecord>, moves: Vec<MoveRecord>) -> Event {
    Event::Records { nodes: vec![], groups, quarantine: vec![], moves, buckets: None }
}

/// An owner whose slice is protected and at rest, and its request to the store.
fn recording() -> (Rig, u64) {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    assert_eq!(ask(&mut rig), [Command::Freeze { group: G, slice: SLICE }]);
    assert_eq!(rig.on(Event::Frozen { group: G, slice: SLICE }), [], "the standby has not acknowledged yet");
    let out = rig.ack(PEER, 2, 1, chain(1));
    assert_eq!(released(&out), Some(1), "what it covers leaves before the move");
    match out.last() {
        Some(Command::RequestMove { attempt, group: G, epoch: Epoch(2), slices }) if *slices == [SLICE] => {
            (rig, *attempt)
        }
        _ => panic!("{out:?}"),
    }
}

#[test]
fn a_slice_moves_when_its_standby_has_all_of_it_and_is_an_image_then() {
    let (mut rig, attempt) = recording();
    rig.now += 60_000;
    assert!(rig.on(Event::Tick).iter().any(|c| matches!(c, Command::RequestMove { attempt: a, .. } if *a == attempt)));
    let out = rig.on(records(vec![GroupRecord::of_move(H, PEER, ME)], vec![moved(ME, attempt, vec![ME, PEER])]));
    assert_eq!(out[0], Command::HandOver { slice: SLICE, to: H });
    assert!(matches!(
        &out[1],
        Command::AnswerMove {
            request: 4,
            answer: MoveAnswer::Moved { slice: SLICE, from: ME, to: PEER, group: H, .. }
        }
    ));
    assert_eq!(out[2..], [Command::ReportMoved { to: H }]);
    assert_eq!((rig.engine.tally().protected, rig.engine.tally().standby), (0, 1));
    // The new owner's checkpoints go on from the very image; those of the old group are refused.
    let next = Event::Checkpoint {
        from: PEER,
        head: escape_proto::CheckpointHead { group: H, ..head(1, 2, BodyKind::Delta) },
        body: 7,
    };
    assert!(matches!(rig.on(next)[..], [Command::Apply { .. }]));
    let answer = Event::MoveOutcome { attempt, group: G, outcome: MoveOutcome::Moved(H) };
    assert_eq!(rig.on(answer), [], "it was known");
}

#[test]
fn a_refused_move_leaves_the_slice_where_it_is() {
    let (mut rig, attempt) = recording();
    let outcome = MoveOutcome::Refused { cause: "no".to_owned() };
    let late = Event::MoveOutcome { attempt: attempt + 1, group: G, outcome: outcome.clone() };
    assert_eq!(rig.on(late), [], "another attempt's");
    let out = rig.on(Event::MoveOutcome { attempt, group: G, outcome });
    assert_eq!(out[0], Command::Thaw { slice: SLICE });
    assert!(matches!(&out[1], Command::AnswerMove { answer: MoveAnswer::Refused { again: true, .. }, .. }));
    assert!(matches!(rig.capture(BodyKind::Delta, 2)[..], [Command::Send { .. }]));
    assert_eq!(ask(&mut rig), [Command::Freeze { group: G, slice: SLICE }], "and may be tried again");
}

#[test]
fn a_slice_that_does_not_come_to_rest_stays() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    ask(&mut rig);
    rig.now += 200_000;
    let out = rig.on(Event::Tick);
    assert!(out.contains(&Command::Thaw { slice: SLICE }), "{out:?}");
    // Its VMM says so too late: it must not stay frozen.
    assert_eq!(rig.on(Event::Frozen { group: G, slice: SLICE }), [Command::Thaw { slice: SLICE }]);
}

#[test]
fn what_cannot_move_is_told_why() {
    let refusal = |out: Vec<Command>| match out.into_iter().next() {
        Some(Command::AnswerMove { answer: MoveAnswer::Refused { cause, again }, .. }) => (cause, again),
        other => panic!("{other:?}"),
    };
    let mut rig = Rig::joined();
    assert!(matches!(ask(&mut rig)[..], [Command::AnswerMove { answer: MoveAnswer::NotHere, .. }]));
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    let elsewhere = Event::MoveAsked { request: 4, slices: vec![SLICE], to: Some(NodeId(9)) };
    let (cause, again) = refusal(rig.on(elsewhere));
    assert!(cause.contains("stands by for it: that is 1, not 9") && !again, "{cause}");
    ask(&mut rig);
    let (cause, again) = refusal(ask(&mut rig));
    assert!(cause.contains("is changing") && again, "one move at a time: {cause}");
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    rig.capture(BodyKind::Close, 2);
    assert!(refusal(ask(&mut rig)).0.contains("it ends"));
}

#[test]
fn a_guest_that_dies_while_its_slice_comes_to_rest_ends_the_move() {
    let mut rig = Rig::paired();
    rig.capture(BodyKind::Create, 1);
    ask(&mut rig);
    let out = rig.on(Event::GuestDown { suspects: vec![] });
    assert!(out.contains(&Command::Thaw { slice: SLICE }), "{out:?}");
    assert!(out.iter().any(|c| matches!(c, Command::AnswerMove { answer: MoveAnswer::Refused { .. }, .. })));
}

/// The standby of `G`, which has the slice at checkpoint 2 and is linked to its owner.
fn standby() -> Rig {
    let mut rig = Rig::joined();
    rig.on(Event::PeerUp(PEER));
    rig.record(GroupRecord::fresh(G, PEER).paired_with(ME));
    for (body, head) in [(1, head(2, 1, BodyKind::Create)), (2, head(2, 2, BodyKind::Delta))] {
        rig.on(Event::Checkpoint { from: PEER, head, body });
        rig.on(Event::Applied { from: PEER, head, result: Ok(()) });
    }
    rig
}

#[test]
fn the_standby_goes_on_with_it_and_sends_no_copy_to_whoever_has_the_same() {
    let mut rig = standby();
    let out = rig.on(records(vec![GroupRecord::of_move(H, ME, PEER)], vec![moved(PEER, 3, vec![PEER, ME])]));
    assert_eq!(out[..2], [Command::Regroup { slice: SLICE, to: H }, Command::ReportMoved { to: H }]);
    assert!(
        matches!(&out[2..], [Command::Activate { group: H, epoch: Epoch(1), slices }] if slices[0].no == CheckpointNo(2)),
        "{out:?}"
    );
    rig.on(Event::GateClosed { group: H, epoch: Epoch(1) });
    rig.on(Event::Flipped { group: H, epoch: Epoch(1) });
    let out = rig.on(Event::Plugged { group: H, slice: SLICE, ok: true });
    assert_eq!(out, [Command::OpenGate { group: H, slice: SLICE }, Command::OpenGroup { group: H }]);
    let captured = Event::Captured {
        group: H,
        slice: SLICE,
        kind: BodyKind::Delta,
        generation: 3,
        rcv_covered: 0,
        flow: super::FLOW,
        chain: chain(3),
    };
    let out = rig.on(captured);
    assert!(
        matches!(&out[..], [Command::Send { to: PEER, head }] if head.no == CheckpointNo(3) && head.base == CheckpointNo(2))
    );
}

#[test]
fn a_group_that_is_handed_over_with_the_news_of_a_move_does_not_have_the_slice() {
    let mut rig = standby();
    let third = Member { node: NodeId(2), inc: Incarnation(1) };
    let handed = GroupRecord::fresh(G, PEER).paired_with(ME).handed_to(ME);
    let elsewhere = GroupRecord::of_move(H, third, PEER);
    let out = rig.on(records(vec![handed, elsewhere], vec![moved(PEER, 3, vec![PEER, ME])]));
    let empty = |c: &Command| matches!(c, Command::Activate { group: G, slices, .. } if slices.is_empty());
    assert!(out.iter().any(empty), "{out:?}");
    assert!(out.contains(&Command::FreeImage { slice: SLICE }), "the new group is others': {out:?}");
}

/// A checkpoint that was on its way into the group when the slice had left it must not bring it back.
#[test]
fn a_late_checkpoint_of_the_former_group_is_refused() {
    let mut rig = standby();
    rig.on(records(vec![GroupRecord::of_move(H, ME, PEER)], vec![moved(PEER, 3, vec![PEER])]));
    let out = rig.on(Event::Checkpoint { from: PEER, head: head(2, 3, BodyKind::Full), body: 9 });
    let refused = |c: &Command| matches!(c, Command::SendRefusal { refusal: Refusal { group: G, .. }, .. });
    assert!(out.iter().any(refused) && !out.iter().any(|c| matches!(c, Command::Apply { .. })), "{out:?}");
    let mut rig = standby();
    rig.on(Event::Checkpoint { from: PEER, head: head(2, 3, BodyKind::Delta), body: 3 });
    rig.on(records(vec![], vec![moved(PEER, 3, vec![PEER])]));
    let out = rig.on(Event::Applied { from: PEER, head: head(2, 3, BodyKind::Delta), result: Ok(()) });
    assert!(
        matches!(&out[..], [Command::SendRefusal { refusal, .. }] if refusal.cause == RefusalCause::NotOwner),
        "{out:?}"
    );
}

/// A life that was declared dead between the store's word and its own hearing of it brings the slice to its new group.
#[test]
fn a_process_that_joins_anew_puts_its_images_in_order_first() {
    let (mut rig, attempt) = recording();
    let me = Member { inc: Incarnation(ME.inc.0 + 1), ..ME };
    let dead = escape_proto::NodeRecord { state: escape_proto::NodeState::Dead, ..up(ME, "a") };
    rig.on(Event::Records { nodes: vec![dead], groups: vec![], quarantine: vec![], moves: vec![], buckets: None });
    let moves = vec![moved(ME, attempt, vec![ME, PEER])];
    let out = rig.on(Event::Joined { me, claimed: vec![H], moves });
    assert_eq!(out, [Command::Regroup { slice: SLICE, to: H }]);
    let claimed = GroupRecord::of_move(H, PEER, ME).handed_to(me);
    let out = rig.on(Event::Records {
        nodes: vec![up(me, "a")],
        groups: vec![claimed],
        quarantine: vec![],
        moves: vec![],
        buckets: None,
    });
    assert!(matches!(&out[..], [Command::Activate { group: H, slices, .. }] if slices.len() == 1), "{out:?}");
}
