//! The records as this node has seen them.

use escape_proto::{GroupId, GroupRecord, Member, Mode, NodeId, NodeRecord, NodeState};
use std::collections::BTreeMap;

/// Newest records seen. Never goes back: the highest epoch per group is kept as long as the incarnation (R7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct RecordsView {
    nodes: BTreeMap<NodeId, NodeRecord>,
    groups: BTreeMap<GroupId, GroupRecord>,
}

impl RecordsView {
    /// Takes a node's record if it is newer; Dead is final for an incarnation.
    pub fn see_node(&mut self, record: NodeRecord) {
        let newer = self.nodes.get(&record.node()).is_none_or(|known| {
            record.member.inc > known.member.inc
                || (record.member.inc == known.member.inc && known.state == NodeState::Up)
        });
        if newer {
            self.nodes.insert(record.node(), record);
        }
    }

    /// Takes a group's record if its epoch is higher.
    pub fn see_group(&mut self, record: GroupRecord) -> bool {
        let newer = self.groups.get(&record.group).is_none_or(|known| record.epoch > known.epoch);
        if newer {
            self.groups.insert(record.group, record);
        }
        newer
    }

    pub fn group(&self, group: GroupId) -> Option<&GroupRecord> {
        self.groups.get(&group)
    }

    pub fn groups(&self) -> impl Iterator<Item = &GroupRecord> {
        self.groups.values()
    }

    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values()
    }

    /// Is exactly this life up, as far as is known?
    pub fn is_up(&self, member: Member) -> bool {
        self.nodes.get(&member.node).is_some_and(|n| n.is_up(member))
    }

    /// Is this life known to be over: Dead, or the node joined anew?
    pub fn is_over(&self, member: Member) -> bool {
        self.nodes
            .get(&member.node)
            .is_some_and(|n| n.member.inc > member.inc || (n.member.inc == member.inc && n.state == NodeState::Dead))
    }

    /// Groups that this member stands by for: of `owner`, and of anybody.
    pub fn standby_load(&self, member: Member, owner: Member) -> (usize, usize) {
        let stood_by = self.groups.values().filter(|g| g.mode == Mode::Paired && g.standby == Some(member));
        stood_by.fold((0, 0), |(mine, all), g| (mine + usize::from(g.owner == owner), all + 1))
    }
}
