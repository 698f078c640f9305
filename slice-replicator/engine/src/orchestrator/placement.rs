//! Where new flows go.

use super::draft::Draft;
use super::leases::LeaseReports;
use crate::store::Record;
use escape_proto::{GroupId, GroupRecord, Incarnation, Member, Mode, NodeState};
use std::collections::BTreeSet;

/// Of a node that was never in the cell before.
const FIRST_LIFE: Incarnation = Incarnation(1);

/// Spreads new flows over the groups of nodes that are Up. A node that joins anew keeps copies at once, but a Linux guest boots for seconds, and
/// flows that were placed there would wait so long for an answer: later lives of a node get flows while their guest is up. Of one that has not
/// said (it has just joined, or the orchestrator has) the groups keep what they have and get no more. First lives get their share at once: where
/// a cell begins no guest is up, and nothing is to be moved while the first connections open. If no guest is known to be up, all are as good.
pub(super) fn spread_buckets(reports: &LeaseReports, draft: &mut Draft<'_>) {
    let up: BTreeSet<Member> =
        draft.nodes().into_iter().filter(|n| n.state == NodeState::Up).map(|n| n.member).collect();
    let now = draft.buckets();
    let placed: BTreeSet<GroupId> = now.groups.iter().copied().collect();
    let owned: Vec<GroupRecord> =
        draft.groups().into_iter().filter(|g| g.mode != Mode::Lost && up.contains(&g.owner)).collect();
    let serves = |g: &GroupRecord| reports.get(&g.owner).map_or(placed.contains(&g.group), |report| report.serves);
    let takes_flows = |g: &&GroupRecord| g.owner.inc == FIRST_LIFE || serves(g);
    let mut groups: Vec<GroupId> = owned.iter().filter(takes_flows).map(|g| g.group).collect();
    if groups.is_empty() {
        groups = owned.iter().map(|g| g.group).collect();
    }
    let spread = now.respread(now.version + 1, &groups);
    if spread.groups != now.groups {
        draft.put(Record::Buckets(spread));
    }
}
