//! What is to be said about a cell's status.

use escape_proto::{CellStatus, GroupStatus, NodeStatus};
use serde::Serialize;
use std::time::Duration;

/// The report; also the JSON of `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// What is wrong; empty: nothing.
    pub problems: Vec<String>,
    /// What the orchestrator said.
    #[serde(flatten)]
    pub cell: CellStatus,
}

impl StatusReport {
    /// Judges. `unprotected_limit`: how long slices may rest on one copy.
    pub fn new(cell: CellStatus, unprotected_limit: Duration) -> Self {
        let mut problems = Vec::new();
        if cell.slices_lost > 0 {
            problems.push(format!("{} lost since the orchestrator's start", slices(cell.slices_lost)));
        }
        let limit_us = u64::try_from(unprotected_limit.as_micros()).unwrap_or(u64::MAX);
        let late = || cell.groups.iter().filter(|group| group.solo > 0 && group.unprotected_us > limit_us);
        let unprotected: u64 = late().map(|group| u64::from(group.solo)).sum();
        if let Some(longest) = late().map(|group| group.unprotected_us).max() {
            let longest = Duration::from_micros(longest).as_secs_f64();
            problems.push(format!("{} on one copy, for up to {longest:.1} s", slices(unprotected)));
        }
        problems.extend(cell.nodes.iter().filter_map(|node| without_slots(&cell, node)));
        Self { problems, cell }
    }

    /// Groups of one owner.
    pub(super) fn groups_of(&self, node: u16) -> impl Iterator<Item = &GroupStatus> {
        self.cell.groups.iter().filter(move |group| group.owner == node)
    }
}

/// A node that takes no new session, and will not soon.
fn without_slots(cell: &CellStatus, node: &NodeStatus) -> Option<String> {
    let is_without = node.up && node.leases == 0 && cell.leases_free == 0;
    is_without.then(|| {
        let CellStatus { leases_draining: draining, .. } = cell;
        format!(
            "node {} takes no new sessions: no lease is free, {draining} wait for the last session of a former life of a node (more `slots` in \
             the replication file help)",
            node.node
        )
    })
}

fn slices(count: u64) -> String {
    if count == 1 { "1 slice".into() } else { format!("{count} slices") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_proto::Mode;

    fn cell(solo: u32, unprotected_us: u64, slices_lost: u64) -> CellStatus {
        let group = GroupStatus {
            group: 1,
            epoch: 3,
            owner: 1,
            standby: Some(2),
            mode: Mode::Paired,
            protected: 5,
            solo,
            unprotected_us,
        };
        CellStatus { groups: vec![group], slices_lost, ..CellStatus::default() }
    }

    #[test]
    fn lost_or_long_unprotected_is_a_problem_and_a_moment_is_none() {
        let problems = |cell| StatusReport::new(cell, Duration::from_secs(5)).problems;
        assert_eq!(problems(cell(0, 0, 0)), [""; 0]);
        assert_eq!(problems(cell(3, 4_000_000, 0)), [""; 0]);
        assert_eq!(problems(cell(3, 7_250_000, 0)), ["3 slices on one copy, for up to 7.2 s"]);
        assert_eq!(problems(cell(0, 0, 1)), ["1 slice lost since the orchestrator's start"]);
    }

    /// Found by the lab: new connections were not answered for a minute, and all was well.
    #[test]
    fn a_node_without_slots_is_a_problem_when_no_lease_is_free() {
        let node = |node, leases| NodeStatus { node, up: true, leases, ..NodeStatus::default() };
        let cell = |leases_free| CellStatus {
            nodes: vec![node(1, 2), node(2, 0), NodeStatus { up: false, ..node(3, 0) }],
            leases_free,
            leases_draining: 5,
            ..CellStatus::default()
        };
        let problems = |cell| StatusReport::new(cell, Duration::from_secs(5)).problems;
        assert_eq!(problems(cell(1)), [""; 0], "it is about to get it");
        let told = problems(cell(0));
        assert!(
            told.len() == 1 && told[0].starts_with("node 2 takes no new sessions: no lease is free, 5 wait"),
            "{told:?}"
        );
    }
}
