//! Where new flows go.

use super::*;
use std::collections::BTreeSet;

impl Rig {
    /// A node says whether its guest is up.
    fn serves(&mut self, from: Member, serves: bool) {
        let report = LeaseReport { serves, ..LeaseReport::default() };
        self.on(OrchestratorEvent::Request { from, request: ToOrchestrator::Leases(report) });
    }

    /// Nodes in whose groups new flows are placed.
    fn placed(&self) -> Vec<u16> {
        let owners: BTreeSet<u16> =
            self.store.buckets().unwrap().groups.iter().map(|g| self.group(g.0).owner.node.0).collect();
        owners.into_iter().collect()
    }
}

/// Found by the lab: after each failover new connections waited for 8 to 12 s, as long as the guest of the node that was there again booted.
#[test]
fn new_flows_are_placed_where_a_guest_is_up() {
    let mut rig = Rig::started();
    rig.join(0, request("h0"));
    rig.join(1, request("h1"));
    assert_eq!(rig.placed(), [0, 1], "a cell begins");
    rig.serves(member(0, 1), false);
    assert_eq!(rig.placed(), [0, 1], "nothing is moved while it does");
    rig.serves(member(0, 1), true);
    rig.join(1, request("h1"));
    assert_eq!(rig.placed(), [0], "its guest boots");
    rig.serves(member(1, 2), false);
    assert_eq!(rig.placed(), [0]);
    rig.serves(member(1, 2), true);
    assert_eq!(rig.placed(), [0, 1]);
    let buckets = rig.store.buckets().unwrap().groups.iter().filter(|g| rig.group(g.0).owner.node.0 == 1).count();
    assert_eq!(buckets, 2_048, "half of them");
    rig.join(0, request("h0"));
    assert_eq!(rig.placed(), [1], "its guest boots");
    rig.serves(member(1, 2), false);
    assert_eq!(rig.placed(), [0, 1], "nobody is better than another");
    rig.serves(member(0, 2), true);
    assert_eq!(rig.placed(), [0]);
}
