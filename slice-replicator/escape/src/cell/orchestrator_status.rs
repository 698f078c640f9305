//! What the orchestrator answers to `status`.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The parts that a drill looks at.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct OrchestratorStatus {
    /// All groups.
    pub groups: Vec<GroupStatus>,
}

/// Who has a group.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct GroupStatus {
    /// Its owner.
    pub owner: u16,
    /// Its standby, if it has one.
    pub standby: Option<u16>,
}

impl OrchestratorStatus {
    /// The nodes that stand by for groups of `owner`, those with the most groups first.
    pub fn standbys_of(&self, owner: u16) -> Vec<u16> {
        let mut groups: BTreeMap<u16, usize> = BTreeMap::new();
        for standby in self.groups.iter().filter(|group| group.owner == owner).filter_map(|group| group.standby) {
            *groups.entry(standby).or_default() += 1;
        }
        let mut standbys: Vec<(usize, u16)> = groups.into_iter().map(|(node, groups)| (groups, node)).collect();
        standbys.sort_unstable_by_key(|(groups, node)| (usize::MAX - groups, *node));
        standbys.into_iter().map(|(_, node)| node).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn those_with_the_most_groups_come_first() {
        let text = r#"{"revision": 7, "groups": [
            {"group": 0, "epoch": 1, "owner": 1, "standby": 2, "mode": "Paired"},
            {"group": 1, "epoch": 1, "owner": 1, "standby": 0, "mode": "Paired"},
            {"group": 2, "epoch": 1, "owner": 1, "standby": 0, "mode": "Paired"},
            {"group": 3, "epoch": 1, "owner": 1, "standby": null, "mode": "Solo"},
            {"group": 4, "epoch": 1, "owner": 2, "standby": 1, "mode": "Paired"}]}"#;
        let status: OrchestratorStatus = serde_json::from_str(text).unwrap();
        assert_eq!(status.standbys_of(1), [0, 2]);
        assert!(status.standbys_of(0).is_empty());
    }
}
