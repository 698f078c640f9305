//! Checkpoints of an epoch that this node's records have not reached yet.

use escape_proto::{CheckpointHead, GroupId, Member, SliceId};
use std::collections::{BTreeMap, VecDeque};

/// A checkpoint that waits for its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub from: Member,
    pub head: CheckpointHead,
    pub body: u64,
}

/// The waiting room. Full, for the group or for all: the newcomer is refused (its sender tries again).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WaitingRoom {
    groups: BTreeMap<GroupId, VecDeque<Waiting>>,
    len: usize,
    per_group_max: usize,
    max: usize,
}

impl WaitingRoom {
    pub const fn new(per_group_max: usize, max: usize) -> Self {
        Self { groups: BTreeMap::new(), len: 0, per_group_max, max }
    }

    /// Takes one in; `false` if there is no room.
    pub fn enter(&mut self, waiting: Waiting) -> bool {
        if self.len >= self.max {
            return false;
        }
        let group = self.groups.entry(waiting.head.group).or_default();
        if group.len() >= self.per_group_max {
            return false;
        }
        group.push_back(waiting);
        self.len += 1;
        true
    }

    /// Lets a group's out, in order of arrival.
    pub fn leave(&mut self, group: GroupId) -> VecDeque<Waiting> {
        let all = self.groups.remove(&group).unwrap_or_default();
        self.len -= all.len();
        all
    }

    /// Does a checkpoint of this group wait?
    pub fn holds(&self, group: GroupId) -> bool {
        self.len != 0 && self.groups.contains_key(&group)
    }

    /// Slices of which a checkpoint waits.
    pub fn slices(&self) -> impl Iterator<Item = SliceId> {
        self.groups.values().flatten().map(|w| w.head.slice)
    }

    /// Groups of which a checkpoint waits.
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    /// Turns out what came from this member; calls `drop_body` with each body.
    pub fn turn_out(&mut self, from: Member, mut drop_body: impl FnMut(u64)) {
        for group in self.groups.values_mut() {
            group.retain(|w| {
                let stays = w.from != from;
                if !stays {
                    drop_body(w.body);
                }
                stays
            });
        }
        self.groups.retain(|_, g| !g.is_empty());
        self.len = self.groups.values().map(VecDeque::len).sum();
    }
}
