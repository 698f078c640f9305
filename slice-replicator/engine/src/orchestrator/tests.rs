//! The orchestrator's machine, rule by rule. Sequences of faults are the simulator's (`tests/sim`).
#![allow(clippy::unwrap_used)]

mod leases;
mod placement;

use super::{
    LinkId, Note, Orchestrator, OrchestratorCommand, OrchestratorConfig, OrchestratorEvent, Receiver, TxnFailure,
};
use crate::store::{Key, Record, StoreState};
use escape_proto::{
    Beat, CasOutcome, FromOrchestrator, GroupId, GroupRecord, Incarnation, JoinReply, JoinRequest, LeaseId,
    LeaseReport, LeaseSet, LeaseState, Member, Mode, MoveOutcome, NodeId, NodeState, Revision, SliceId, Suspect,
    ToOrchestrator, records_mark,
};

/// An orchestrator with a store that always answers at once.
struct Rig {
    machine: Orchestrator,
    store: StoreState,
    now: u64,
    beats: u64,
}

const fn member(node: u16, inc: u64) -> Member {
    Member { node: NodeId(node), inc: Incarnation(inc) }
}

impl Rig {
    fn started() -> Self {
        let config = OrchestratorConfig { groups_per_node: 2, new_cluster: [4; 16], ..OrchestratorConfig::default() };
        let mut rig = Self { machine: Orchestrator::new(config), store: StoreState::default(), now: 0, beats: 0 };
        rig.on(OrchestratorEvent::Started { image: Box::default() });
        rig
    }

    /// Three nodes on three hosts; node 0's groups are Paired with nodes 1 and 2.
    fn cell() -> Self {
        let mut rig = Self::started();
        for n in 0..3 {
            rig.join(n, request(&format!("h{n}")));
        }
        for (group, standby) in [(0, 1), (1, 2)] {
            let to = GroupRecord::fresh(GroupId(group), member(0, 1)).paired_with(member(standby, 1));
            assert_eq!(rig.cas(member(0, 1), to), CasOutcome::Applied(to));
        }
        rig
    }

    fn on(&mut self, event: OrchestratorEvent) -> Vec<OrchestratorCommand> {
        let mut out = Vec::new();
        self.machine.on(self.now, event, &mut out);
        let mut at = 0;
        while let Some(command) = out.get(at).cloned() {
            at += 1;
            if let OrchestratorCommand::Txn { id, txn } = command {
                let conflict = |_| TxnFailure::Conflict { now: Box::new(self.store.clone()) };
                let result = self.store.clone().apply(&txn).map_err(conflict);
                if result.is_ok() {
                    self.store.apply(&txn).unwrap();
                }
                self.machine.on(self.now, OrchestratorEvent::TxnDone { id, result }, &mut out);
            }
        }
        out
    }

    fn join(&mut self, node: u16, request: JoinRequest) -> JoinReply {
        let out = self.on(OrchestratorEvent::Join { link: LinkId(9), node: NodeId(node), request });
        out.into_iter()
            .find_map(|c| match c {
                OrchestratorCommand::Send { to: Receiver::Link(_), message: FromOrchestrator::Join(reply) } => {
                    Some(reply)
                }
                _ => None,
            })
            .unwrap()
    }

    fn cas(&mut self, from: Member, to: GroupRecord) -> CasOutcome {
        let out = self.on(OrchestratorEvent::Request { from, request: ToOrchestrator::Cas { attempt: 1, to } });
        out.into_iter()
            .find_map(|c| match c {
                OrchestratorCommand::Send { message: FromOrchestrator::Outcome { outcome, .. }, .. } => Some(outcome),
                _ => None,
            })
            .unwrap()
    }

    /// What the store says to a move of slices by this node.
    fn move_slices(&mut self, from: Member, attempt: u64, record: GroupRecord, slices: Vec<SliceId>) -> MoveOutcome {
        let request = ToOrchestrator::Move { attempt, group: record.group, epoch: record.epoch, slices };
        let out = self.on(OrchestratorEvent::Request { from, request });
        out.into_iter()
            .find_map(|c| match c {
                OrchestratorCommand::Send { message: FromOrchestrator::MoveOutcome { outcome, .. }, .. } => {
                    Some(outcome)
                }
                _ => None,
            })
            .unwrap()
    }

    /// The cell after node 1 has fallen silent for long enough; its own groups, 2 and 3, are Solo.
    fn without_node_1() -> Self {
        let mut rig = Self::started();
        for n in 0..3 {
            rig.join(n, JoinRequest { memory: 100 + u64::from(n), ..request(&format!("h{n}")) });
        }
        rig.pass(5, &[(0, 0), (1, 0), (2, 0)]);
        let notes = rig.pass(1_100, &[(0, 0), (2, 0)]);
        assert!(is_dead(&notes, member(1, 1)));
        assert!(notes.contains(&Note::Orphaned { group: GroupId(2), owner: member(1, 1) }));
        assert_eq!(rig.group(2), GroupRecord::fresh(GroupId(2), member(1, 1)), "it waits for a claim");
        rig
    }

    /// Lets time pass by the millisecond; these nodes beat, with these suspicions.
    fn pass(&mut self, ms: u64, beating: &[(u16, u32)]) -> Vec<Note> {
        let mut notes = Vec::new();
        for _ in 0..ms {
            self.now += 1_000;
            self.beats += 1;
            for (n, suspects) in beating {
                let (node, seq) = (NodeId(*n), self.beats);
                let beat = Beat { node, inc: Incarnation(1), seq, data_turns: seq, suspects: *suspects };
                self.on(OrchestratorEvent::Beat(beat));
            }
            let out = self.on(OrchestratorEvent::Tick);
            notes.extend(out.into_iter().filter_map(|c| match c {
                OrchestratorCommand::Note(note) => Some(note),
                _ => None,
            }));
        }
        notes
    }

    /// A node says what it holds, at the records as they are or at older ones.
    fn leases(&mut self, from: Member, held: &[u32], wanted: u32, current: bool) {
        let mark = if current { records_mark(self.store.groups()) } else { 0 };
        let mut report = LeaseReport { mark, wanted, ..LeaseReport::default() };
        held.iter().for_each(|l| report.held.insert(LeaseId(*l)));
        self.on(OrchestratorEvent::Request { from, request: ToOrchestrator::Leases(report) });
    }

    fn lease(&self, lease: u32) -> (LeaseState, u32, Member) {
        let record = self.store.leases().find(|l| l.lease.0 == lease).unwrap();
        (record.state, record.generation, record.holder)
    }

    fn group(&self, g: u32) -> GroupRecord {
        *self.store.group(GroupId(g)).unwrap()
    }
}

fn request(host: &str) -> JoinRequest {
    JoinRequest {
        host: host.to_owned(),
        digest: [1; 32],
        addr: "127.0.0.1:1".to_owned(),
        leases: 2,
        seen: Revision(0),
        cluster: None,
        memory: 0,
    }
}

fn is_dead(notes: &[Note], m: Member) -> bool {
    notes.contains(&Note::Dead { member: m })
}

#[test]
fn a_join_gives_a_life_groups_and_leases() {
    let mut rig = Rig::started();
    let JoinReply::Joined { me, cluster, leases, .. } = rig.join(0, request("h0")) else { panic!("refused") };
    assert_eq!((me, cluster, leases.len()), (member(0, 1), [4; 16], 2));
    assert_eq!(rig.group(1), GroupRecord::fresh(GroupId(1), me));
    assert_eq!(rig.store.buckets().unwrap().groups.len(), 4_096);
    // The same node again: its former life is over, its groups and their ids too.
    let JoinReply::Joined { me, leases, .. } = rig.join(0, request("h0")) else { panic!("refused") };
    assert_eq!((me, leases[0].lease.0), (member(0, 2), 2));
    assert_eq!(rig.group(0).mode, Mode::Lost);
    assert_eq!(rig.group(2), GroupRecord::fresh(GroupId(2), me));
    assert!(rig.store.leases().filter(|l| l.lease.0 < 2).all(|l| l.state == LeaseState::Draining));
}

#[test]
fn who_does_not_fit_is_refused_with_the_cause() {
    let mut rig = Rig::started();
    rig.join(0, request("h0"));
    let ahead = JoinRequest { seen: Revision(99), ..request("h1") };
    let image = JoinRequest { digest: [2; 32], ..request("h1") };
    let stranger = JoinRequest { cluster: Some([5; 16]), ..request("h1") };
    for (bad, why) in [(ahead, "older than what"), (image, "guest image"), (stranger, "belongs to cluster")] {
        let JoinReply::Refused { cause } = rig.join(1, bad) else { panic!("not refused: {why}") };
        assert!(cause.contains(why), "{cause}");
    }
    let JoinReply::Refused { cause } = rig.join(32, request("h1")) else { panic!("not refused") };
    assert!(cause.contains("too high"), "{cause}");
}

#[test]
fn a_failover_needs_two_suspicions_and_is_one_transaction() {
    let mut rig = Rig::cell();
    rig.pass(5, &[(0, 0), (1, 0), (2, 0)]);
    let notes = rig.pass(40, &[(1, 0), (2, 0)]);
    assert!(!is_dead(&notes, member(0, 1)), "no standby suspects it");
    let before = rig.store.revision();
    let notes = rig.pass(2, &[(1, 1), (2, 0)]);
    assert!(is_dead(&notes, member(0, 1)));
    assert_eq!(rig.store.revision(), Revision(before.0 + 1));
    assert_eq!(
        rig.group(0),
        GroupRecord::fresh(GroupId(0), member(0, 1)).paired_with(member(1, 1)).handed_to(member(1, 1))
    );
    assert_eq!(rig.group(1).owner, member(2, 1));
    assert!(rig.store.buckets().unwrap().groups.iter().all(|g| rig.group(g.0).mode != Mode::Lost));
}

#[test]
fn a_process_that_remembers_goes_on_with_its_groups_and_another_loses_them() {
    let mut rig = Rig::without_node_1();
    let back = JoinRequest { memory: 101, ..request("h1") };
    let JoinReply::Joined { me, claimed, .. } = rig.join(1, back.clone()) else { panic!("refused") };
    assert_eq!((me, claimed), (member(1, 2), vec![GroupId(2), GroupId(3)]));
    assert_eq!(rig.group(2), GroupRecord::fresh(GroupId(2), member(1, 1)).handed_to(me));
    // The answer was lost on its way: it asks again, and has the same life.
    let JoinReply::Joined { me, claimed, .. } = rig.join(1, back) else { panic!("refused") };
    assert_eq!((me, claimed.contains(&GroupId(2))), (member(1, 2), true));

    for memory in [0, 7] {
        let mut rig = Rig::without_node_1();
        let JoinReply::Joined { claimed, .. } = rig.join(1, JoinRequest { memory, ..request("h1") }) else {
            panic!("refused")
        };
        assert_eq!((claimed, rig.group(2).mode), (vec![], Mode::Lost));
    }
}

#[test]
fn a_recorded_standby_claims_if_the_owner_is_gone_and_nobody_claims_too_late() {
    let mut rig = Rig::without_node_1();
    // Node 0's first group has node 2 as its standby; both go, and only the standby comes back.
    let to = rig.group(0).paired_with(member(2, 1));
    assert_eq!(rig.cas(member(0, 1), to), CasOutcome::Applied(to));
    rig.pass(1_100, &[]);
    assert_eq!((rig.group(0), rig.store.node(NodeId(2)).unwrap().state), (to, NodeState::Dead));
    let JoinReply::Joined { me, claimed, .. } = rig.join(2, JoinRequest { memory: 102, ..request("h2") }) else {
        panic!("refused")
    };
    assert!(claimed.contains(&GroupId(0)));
    assert_eq!(rig.group(0), to.handed_to(me));
    // Node 1 has had its time.
    let notes = rig.pass(10_000, &[]);
    assert!(notes.contains(&Note::Lost { group: GroupId(2), owner: member(1, 1) }));
    let JoinReply::Joined { claimed, .. } = rig.join(1, JoinRequest { memory: 101, ..request("h1") }) else {
        panic!("refused")
    };
    assert_eq!((claimed, rig.group(2).mode), (vec![], Mode::Lost));
}

fn slice(slot: u32) -> SliceId {
    SliceId { slot, inc: 1 << 32 | 7 }
}

impl Rig {
    /// The guest of a node died under these slices of its group.
    fn crash(&mut self, from: Member, group: u32, crash: u64, slots: &[u32]) {
        let suspects: Vec<Suspect> =
            slots.iter().map(|s| Suspect { group: GroupId(group), slice: slice(*s) }).collect();
        let referenced = u32::try_from(suspects.len()).unwrap();
        let request = ToOrchestrator::GuestDown { cause: "page fault".to_owned(), crash, referenced, suspects };
        self.on(OrchestratorEvent::Request { from, request });
    }

    fn give_up(&mut self, from: Member, group: u32, slot: u32) {
        let suspect = Suspect { group: GroupId(group), slice: slice(slot) };
        let request = ToOrchestrator::Quarantine { suspect, cause: "lies".to_owned() };
        self.on(OrchestratorEvent::Request { from, request });
    }

    /// Crashes charged to a slot's slice, and whether it is given up.
    fn bad(&self, slot: u32) -> Option<(u32, bool)> {
        self.store.quarantine().find(|r| r.slice == slice(slot)).map(|r| (r.count, r.given_up))
    }
}

#[test]
fn a_slice_that_crashes_guest_after_guest_is_given_up_wherever_it_goes() {
    let mut rig = Rig::cell();
    rig.crash(member(0, 1), 0, 5, &[1, 2]);
    assert_eq!((rig.bad(1), rig.bad(2)), (Some((0, false)), Some((0, false))), "nobody knows which of them it was");
    assert_eq!(rig.group(0).owner, member(1, 1), "handed over in the same breath");
    for _ in 0..2 {
        rig.crash(member(1, 1), 0, 9, &[1]);
    }
    assert_eq!(rig.bad(1), Some((1, false)), "a repeated report is one crash");
    rig.crash(member(0, 1), 0, 6, &[1]);
    rig.crash(member(2, 1), 0, 7, &[1]);
    assert_eq!(rig.bad(1), Some((1, false)), "not their slice");
    rig.crash(member(1, 1), 0, 10, &[1]);
    assert_eq!((rig.bad(1), rig.bad(2)), (Some((2, true)), Some((0, false))));
}

#[test]
fn crashes_more_than_a_minute_apart_do_not_add_up_and_after_an_hour_all_is_forgotten() {
    let mut rig = Rig::cell();
    let alive = [(0, 0), (1, 0), (2, 0)];
    rig.crash(member(2, 1), 4, 1, &[1]);
    rig.pass(1, &alive);
    rig.now += 61_000_000;
    rig.pass(1, &alive);
    rig.crash(member(2, 1), 4, 2, &[1]);
    assert_eq!(rig.bad(1), Some((1, false)));
    rig.pass(30, &alive);
    rig.crash(member(2, 1), 4, 3, &[1]);
    assert_eq!(rig.bad(1), Some((2, true)));
    rig.now += 3_600_000_000;
    rig.pass(1, &alive);
    assert_eq!(rig.bad(1), None);
}

#[test]
fn what_is_remembered_of_bad_slices_is_bounded() {
    let mut rig = Rig::cell();
    rig.machine.config.quarantine_max = 3;
    for slot in 64..70 {
        rig.give_up(member(1, 1), 2, slot);
        rig.give_up(member(0, 1), 2, slot + 100);
    }
    assert_eq!((64..70).map(|s| rig.bad(s).is_some()).collect::<Vec<_>>(), [false, false, false, true, true, true]);
    assert_eq!(rig.store.quarantine().count(), 3, "and only an owner is believed");
    // A slot's next slice makes the last one's record needless, and so does a lease that is given again.
    let next = Suspect { group: GroupId(2), slice: SliceId { inc: slice(69).inc + 1, ..slice(69) } };
    let given_up = ToOrchestrator::Quarantine { suspect: next, cause: String::new() };
    rig.on(OrchestratorEvent::Request { from: member(1, 1), request: given_up });
    assert_eq!(rig.bad(69), None);
    rig.crash(member(0, 1), 0, 1, &[3]);
    rig.pass(1_100, &[(1, 1), (2, 1)]);
    for n in 1..3 {
        rig.leases(member(n, 1), &[], 2, true);
    }
    assert!(rig.bad(3).is_some());
    rig.join(0, request("h0"));
    assert_eq!((rig.lease(0).1, rig.bad(3)), (2, None));
}

#[test]
fn the_orchestrators_own_stall_kills_nobody() {
    let mut rig = Rig::cell();
    rig.pass(5, &[(0, 0), (1, 0), (2, 0)]);
    rig.now += 5_000_000;
    let notes = rig.pass(10, &[(1, 1), (2, 1)]);
    assert!(!is_dead(&notes, member(0, 1)));
}

#[test]
fn only_the_owner_changes_its_group_and_only_by_the_rules() {
    let mut rig = Rig::cell();
    let now = rig.group(0);
    let refused = CasOutcome::Refused(now);
    assert_eq!(rig.cas(member(1, 1), now.handed_to(member(1, 1))), refused, "not the owner");
    assert_eq!(rig.cas(member(0, 1), now.solo()), refused, "its standby is up (R2)");
    assert_eq!(rig.cas(member(0, 1), now.paired_with(member(2, 7))), refused, "no such life");
    assert_eq!(rig.cas(member(0, 1), now.paired_with(member(0, 1))), refused, "the same host");
    let jump = GroupRecord { epoch: escape_proto::Epoch(9), ..now };
    assert_eq!(rig.cas(member(0, 1), jump), refused, "not the next epoch");
    let next = now.paired_with(member(2, 1));
    assert_eq!(rig.cas(member(0, 1), next), CasOutcome::Applied(next));
    assert_eq!(rig.cas(member(0, 1), next), CasOutcome::Applied(next), "the same request again (R1)");
}

#[test]
fn a_guest_down_hands_paired_groups_over_and_the_node_stays() {
    let mut rig = Rig::cell();
    let request =
        ToOrchestrator::GuestDown { cause: "triple fault".to_owned(), crash: 1, referenced: 0, suspects: vec![] };
    rig.on(OrchestratorEvent::Request { from: member(0, 1), request });
    assert_eq!((rig.group(0).owner, rig.group(1).owner), (member(1, 1), member(2, 1)));
    assert!(rig.store.node(NodeId(0)).unwrap().is_up(member(0, 1)));
}

#[test]
fn an_unknown_outcome_is_found_out_and_everybody_hears_of_it() {
    let mut rig = Rig::cell();
    let to = rig.group(0).paired_with(member(2, 1));
    let request = ToOrchestrator::Cas { attempt: 5, to };
    let mut out = Vec::new();
    rig.machine.on(rig.now, OrchestratorEvent::Request { from: member(0, 1), request }, &mut out);
    let Some(OrchestratorCommand::Txn { id, txn }) = out.pop() else { panic!("no transaction") };
    rig.store.apply(&txn).unwrap();
    let failure = TxnFailure::Unavailable { cause: "timeout".to_owned() };
    rig.machine.on(rig.now, OrchestratorEvent::TxnDone { id, result: Err(failure) }, &mut out);
    rig.now += 1_000_000;
    let out = rig.on(OrchestratorEvent::Tick);
    let applied = FromOrchestrator::Outcome { attempt: 5, group: GroupId(0), outcome: CasOutcome::Applied(to) };
    let to_owner = OrchestratorCommand::Send { to: Receiver::Node(member(0, 1)), message: applied };
    assert!(out.contains(&to_owner), "{out:?}");
    let told = |c: &OrchestratorCommand| {
        matches!(c, OrchestratorCommand::Send { to: Receiver::AllNodes, message: FromOrchestrator::Records { groups, .. } }
            if groups.contains(&to))
    };
    assert!(out.iter().any(told), "the records that changed without an answer are pushed");
}

/// What a transaction under way has changed goes to all nodes, and so to one whose link has just come back: it must know
/// before that what it has missed, slices that were given up among it.
#[test]
fn a_new_link_hears_of_what_was_before_it_hears_of_what_is_new() {
    let mut rig = Rig::cell();
    let mut out = Vec::new();
    let to = GroupRecord::fresh(GroupId(2), member(1, 1)).paired_with(member(2, 1));
    let request = ToOrchestrator::Cas { attempt: 7, to };
    rig.machine.on(rig.now, OrchestratorEvent::Request { from: member(1, 1), request }, &mut out);
    assert!(matches!(out[..], [OrchestratorCommand::Txn { .. }]), "{out:?}");
    out.clear();
    rig.machine.on(rig.now, OrchestratorEvent::LinkUp(super::Peer::Node(member(0, 1))), &mut out);
    let whole = |c: &OrchestratorCommand| match c {
        OrchestratorCommand::Send { to: Receiver::Node(to), message: FromOrchestrator::Records { nodes, .. } } => {
            *to == member(0, 1) && nodes.len() == 3
        }
        _ => false,
    };
    assert!(matches!(&out[..], [first] if whole(first)), "{out:?}");
}

/// The same for all who were linked before the store was read: the new orchestrator ends a death that was half done, and its
/// transaction is not the first thing that they hear of.
#[test]
fn a_new_orchestrator_tells_what_it_has_read_before_what_it_changes() {
    let mut rig = Rig::cell();
    let mut dead = rig.store.node(NodeId(0)).unwrap().clone();
    dead.state = NodeState::Dead;
    let put = vec![crate::store::Record::Node(dead)];
    rig.store.apply(&crate::store::Txn { compare: vec![], put, delete: vec![] }).unwrap();
    rig.machine = Orchestrator::new(OrchestratorConfig::default());
    let out = rig.on(OrchestratorEvent::Started { image: Box::new(rig.store.clone()) });
    let told: Vec<_> = out
        .iter()
        .filter_map(|c| match c {
            OrchestratorCommand::Send { to: Receiver::AllNodes, message: FromOrchestrator::Records { nodes, .. } } => {
                Some(nodes.len())
            }
            _ => None,
        })
        .collect();
    assert_eq!(told.first(), Some(&3), "all that was read: {told:?}");
    assert!(told.len() > 1, "the groups of the dead node were handed over: {told:?}");
}

#[test]
fn a_move_is_made_once_and_forgotten_when_both_have_put_it_in_order() {
    let mut rig = Rig::cell();
    let (owner, standby, slice) = (member(0, 1), member(1, 1), SliceId { slot: 5, inc: 7 });
    let record = rig.group(0);
    let made = rig.move_slices(owner, 3, record, vec![slice]);
    let MoveOutcome::Moved(to) = made else { panic!("{made:?}") };
    assert_eq!(rig.group(to.0), GroupRecord::of_move(to, standby, owner));
    assert_eq!(rig.group(0), record, "the group that it left is as it was");
    assert_eq!(rig.move_slices(owner, 3, record, vec![slice]), made, "the same request again (R1)");
    let moves = |rig: &Rig| rig.store.get(Key::Move(to)).cloned();
    let settled = |rig: &mut Rig, from| {
        rig.on(OrchestratorEvent::Request { from, request: ToOrchestrator::Moved { to } });
    };
    settled(&mut rig, member(2, 1));
    settled(&mut rig, standby);
    assert!(matches!(moves(&rig), Some(Record::Move(m)) if m.waits_for == [owner]));
    settled(&mut rig, member(0, 2));
    assert_eq!(moves(&rig), None, "a later life speaks for the former one");
}

#[test]
fn a_move_is_refused_if_the_group_is_not_as_its_owner_knows_it() {
    let mut rig = Rig::cell();
    let (owner, slice) = (member(0, 1), SliceId { slot: 5, inc: 7 });
    let record = rig.group(0);
    let older = GroupRecord { epoch: escape_proto::Epoch(1), ..record };
    let solo = rig.group(2);
    let too_many = vec![slice; escape_proto::MoveRecord::SLICES_MAX + 1];
    for (from, record, slices) in [
        (member(1, 1), record, vec![slice]),
        (owner, older, vec![slice]),
        (member(1, 1), solo, vec![slice]),
        (owner, record, vec![]),
        (owner, GroupRecord { group: GroupId(99), ..record }, vec![slice]),
    ] {
        let outcome = rig.move_slices(from, 3, record, slices);
        assert!(matches!(outcome, MoveOutcome::Refused { .. }), "{outcome:?}");
    }
    let request = ToOrchestrator::Move { attempt: 4, group: record.group, epoch: record.epoch, slices: too_many };
    assert_eq!(rig.on(OrchestratorEvent::Request { from: owner, request }), [], "no honest node asks that");
    let suspect = Suspect { group: GroupId(0), slice };
    let request = ToOrchestrator::Quarantine { suspect, cause: "lies".to_owned() };
    rig.on(OrchestratorEvent::Request { from: owner, request });
    let outcome = rig.move_slices(owner, 5, record, vec![slice]);
    assert!(matches!(&outcome, MoveOutcome::Refused { cause } if cause.contains("given up")), "{outcome:?}");
}
