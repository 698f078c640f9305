//! Groups that the kernel refused to steer, as events.

use super::steering::Steered;
use crate::event_log::ProcessEvent;
use escape_proto::GroupId;
use serde_json::json;
use std::collections::BTreeSet;

/// The groups whose steering failed last. It is tried again every few milliseconds, but told once.
#[derive(Debug, Default)]
pub(super) struct FailedGroups {
    failing: BTreeSet<GroupId>,
}

impl FailedGroups {
    /// What is new after one steering.
    pub(super) fn news(&mut self, t_us: u64, steered: &Steered) -> Vec<ProcessEvent> {
        for group in &steered.done {
            self.failing.remove(&group.group);
        }
        let new = steered.failed.iter().filter(|group| self.failing.insert(group.group));
        let event = |group: &escape_engine::edge::GroupSteering| ProcessEvent {
            t_us,
            event: "steer-failed",
            node: Some(group.owner.node.0),
            detail: json!({ "group": group.group.0, "epoch": group.epoch.0, "inc": group.owner.inc.0 }),
        };
        new.map(event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_engine::edge::GroupSteering;
    use escape_proto::{Epoch, Incarnation, Member, NodeId};

    #[test]
    fn a_failure_is_told_once_until_it_ends() {
        let owner = Member { node: NodeId(3), inc: Incarnation(2) };
        let group = GroupSteering { group: GroupId(7), epoch: Epoch(5), owner, mirror: None };
        let failed = || Steered { failed: vec![group], ..Steered::default() };
        let mut groups = FailedGroups::default();
        let told = groups.news(9, &failed());
        assert_eq!(told.iter().map(|event| (event.t_us, event.node)).collect::<Vec<_>>(), [(9, Some(3))]);
        assert!(groups.news(10, &failed()).is_empty());
        assert!(groups.news(11, &Steered { done: vec![group], ..Steered::default() }).is_empty());
        assert_eq!(groups.news(12, &failed()).len(), 1);
    }
}
