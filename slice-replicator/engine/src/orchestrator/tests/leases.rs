//! Leases: given, spent, drained, and free again (T10).

use super::*;

#[test]
fn a_lease_is_free_once_every_node_that_knows_the_records_holds_nothing_in_it() {
    let mut rig = Rig::cell();
    rig.pass(45, &[(1, 1), (2, 1)]);
    let draining = (LeaseState::Draining, 1, member(0, 1));
    assert_eq!((rig.lease(0), rig.lease(1)), (draining, draining));
    rig.leases(member(1, 1), &[0], 2, true);
    rig.leases(member(2, 1), &[], 2, false);
    assert_eq!(rig.lease(1), draining, "node 2 has not seen that it owns a group now");
    rig.leases(member(2, 1), &[], 2, true);
    assert_eq!((rig.lease(0), rig.lease(1).0), (draining, LeaseState::Free));
    // A report of a life that is over counts for nothing, and a node that joins must be heard too.
    rig.leases(member(0, 1), &[], 9, true);
    rig.join(0, request("h0"));
    rig.leases(member(1, 1), &[], 2, true);
    rig.leases(member(2, 1), &[], 2, true);
    assert_eq!(rig.lease(0), draining);
    rig.leases(member(0, 2), &[], 2, true);
    assert_eq!(rig.lease(0).0, LeaseState::Free);
    assert_eq!(rig.lease(1), (LeaseState::Active, 2, member(0, 2)), "given again, under another generation");
}

#[test]
fn no_lease_is_freed_while_a_group_waits_for_its_owner() {
    let mut rig = Rig::without_node_1();
    for n in [0, 2] {
        rig.leases(member(n, 1), &[], 2, true);
    }
    assert_eq!(rig.lease(2).0, LeaseState::Draining);
    rig.join(1, request("h1"));
    for (n, inc) in [(0, 1), (1, 2), (2, 1)] {
        rig.leases(member(n, inc), &[], 2, true);
    }
    assert_eq!(rig.lease(2).0, LeaseState::Free);
}

#[test]
fn a_node_gets_the_leases_that_it_wants_and_gives_back_what_it_has_spent() {
    let mut rig = Rig::cell();
    let held = |rig: &Rig, m| rig.store.leases().filter(|l| l.holder == m && l.state == LeaseState::Active).count();
    rig.leases(member(0, 1), &[], 3, false);
    rig.leases(member(0, 1), &[], 3, false);
    assert_eq!(held(&rig, member(0, 1)), 3, "the number is the goal, not an addition");
    rig.leases(member(0, 1), &[], u32::MAX, false);
    assert_eq!(held(&rig, member(0, 1)), 3 + 16, "so many at once");
    for _ in 0..9 {
        rig.leases(member(0, 1), &[], u32::MAX, false);
    }
    assert_eq!(held(&rig, member(0, 1)), 64, "so many in all");
    let mut spent = LeaseSet::default();
    [0, 2].iter().for_each(|l| spent.insert(LeaseId(*l)));
    let report = LeaseReport { spent, wanted: 2, ..LeaseReport::default() };
    rig.on(OrchestratorEvent::Request { from: member(0, 1), request: ToOrchestrator::Leases(report) });
    assert_eq!((rig.lease(0).0, rig.lease(1).0), (LeaseState::Draining, LeaseState::Active));
    assert_eq!(rig.lease(2), (LeaseState::Active, 1, member(1, 1)), "another node's lease");
}
