//! What the orchestrator keeps for people: figures that nodes report, and what it saw happen. Nothing here decides.

use super::failovers::Failovers;
use escape_engine::Micros;
use escape_engine::orchestrator::Note;
use escape_proto::{GroupId, GroupRecord, GroupSlices, Member, Milestone, SliceCounts};
use std::collections::{BTreeMap, BTreeSet};

/// Quarantined slices that are told apart; further ones are not counted.
const QUARANTINED_MAX: usize = 65_536;

/// Figures of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupFigures {
    /// Slices with an acknowledged copy at the standby.
    pub(super) protected: u32,
    /// Slices on one copy.
    pub(super) solo: u32,
    /// Since when it has had such slices.
    pub(super) solo_since: Option<Micros>,
}

/// The figures; as many as there are nodes and groups in the store.
#[derive(Debug)]
pub(super) struct Figures {
    started: Micros,
    nodes: BTreeMap<Member, SliceCounts>,
    groups: BTreeMap<GroupId, GroupFigures>,
    pub(super) failovers: Failovers,
    pub(super) slices_lost: u64,
    /// Slot and incarnation: owner and standby both tell.
    quarantined: BTreeSet<(u32, u64)>,
}

impl Figures {
    pub(super) fn new(now: Micros) -> Self {
        Self {
            started: now,
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            failovers: Failovers::default(),
            slices_lost: 0,
            quarantined: BTreeSet::new(),
        }
    }

    /// Since the start.
    pub(super) const fn uptime_us(&self, now: Micros) -> Micros {
        now.saturating_sub(self.started)
    }

    /// Slices that were quarantined.
    pub(super) fn slices_quarantined(&self) -> u64 {
        self.quarantined.len() as u64
    }

    /// What a life of a node reported last.
    pub(super) fn node(&self, member: Member) -> SliceCounts {
        self.nodes.get(&member).copied().unwrap_or_default()
    }

    /// What a group's owner reported last.
    pub(super) fn group(&self, group: GroupId) -> GroupFigures {
        self.groups.get(&group).copied().unwrap_or_default()
    }

    /// The machine noticed something.
    pub(super) fn note(&mut self, now: Micros, note: &Note) {
        self.failovers.note(now, note);
        match note {
            Note::Counts { from, counts } => {
                self.nodes.retain(|member, _| member.node != from.node || member == from);
                self.nodes.insert(*from, *counts);
            }
            Note::Lost { group, .. } => {
                if let Some(lost) = self.groups.remove(group) {
                    self.slices_lost += u64::from(lost.protected) + u64::from(lost.solo);
                }
            }
            // Until its new owner reports, all slices of the group rest on its one copy.
            Note::Handed { group, .. } | Note::Claimed { group, .. } => {
                let figures = self.groups.entry(*group).or_default();
                figures.solo += std::mem::take(&mut figures.protected);
                if figures.solo > 0 {
                    figures.solo_since.get_or_insert(now);
                }
            }
            Note::Milestone { what: Milestone::Quarantined(slot, inc, _), .. }
                if self.quarantined.len() < QUARANTINED_MAX =>
            {
                self.quarantined.insert((*slot, *inc));
            }
            _ => {}
        }
    }

    /// A node reported its groups. `owned`: those that the records give it; others are not its to tell of, and a group
    /// that it owns and does not name has no slices.
    pub(super) fn report(&mut self, now: Micros, report: &[GroupSlices], owned: impl Iterator<Item = GroupRecord>) {
        let told: BTreeMap<GroupId, &GroupSlices> = report.iter().map(|slices| (slices.group, slices)).collect();
        for record in owned {
            let (protected, solo) = told.get(&record.group).map_or((0, 0), |slices| (slices.protected, slices.solo));
            let figures = self.groups.entry(record.group).or_default();
            *figures =
                GroupFigures { protected, solo, solo_since: (solo > 0).then(|| figures.solo_since.unwrap_or(now)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_proto::{Epoch, Incarnation, NodeId};

    fn member(node: u16) -> Member {
        Member { node: NodeId(node), inc: Incarnation(1) }
    }

    fn report(figures: &mut Figures, now: Micros, protected: u32, solo: u32) {
        let owned = GroupRecord::fresh(GroupId(4), member(1));
        let foreign = GroupSlices { group: GroupId(9), protected: 7, solo: 7 };
        figures.report(now, &[GroupSlices { group: GroupId(4), protected, solo }, foreign], [owned].into_iter());
    }

    #[test]
    fn being_unprotected_has_a_beginning_and_an_end() {
        let mut figures = Figures::new(0);
        report(&mut figures, 10, 5, 0);
        assert_eq!(figures.group(GroupId(4)).solo_since, None);
        figures.note(20, &Note::Handed { group: GroupId(4), epoch: Epoch(3), to: member(2) });
        assert_eq!(figures.group(GroupId(4)), GroupFigures { protected: 0, solo: 5, solo_since: Some(20) });
        report(&mut figures, 30, 3, 2);
        assert_eq!(figures.group(GroupId(4)).solo_since, Some(20));
        report(&mut figures, 40, 5, 0);
        assert_eq!(figures.group(GroupId(4)).solo_since, None);
        assert_eq!(figures.group(GroupId(9)), GroupFigures::default(), "not the sender's to tell of");
    }

    #[test]
    fn a_lost_group_takes_its_slices_along() {
        let mut figures = Figures::new(0);
        report(&mut figures, 10, 5, 1);
        figures.note(20, &Note::Lost { group: GroupId(4), owner: member(1) });
        figures.note(21, &Note::Lost { group: GroupId(5), owner: member(1) });
        assert_eq!(figures.slices_lost, 6);
    }
}
