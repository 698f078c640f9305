//! Groups whose owner's life is over: handed to their standby, claimed by a process that still remembers them, kept for
//! such a claim, or lost (T5).

use super::command::{Note, OrchestratorCommand};
use super::config::OrchestratorConfig;
use super::draft::Draft;
use super::leases::LeaseReports;
use super::machine::{Intent, Orchestrator};
use super::placement::spread_buckets;
use crate::store::{Record, StoreState};
use crate::{Micros, Mutant};
use escape_proto::{Epoch, GroupId, GroupRecord, Member, Mode, NodeState};
use std::collections::BTreeMap;

/// A process that joins with the memory of its node's former life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimant {
    pub former: Member,
    pub now: Member,
}

/// Groups that nobody in the cell has a copy of, since when, by the present orchestrator's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Orphans {
    since: BTreeMap<GroupId, Orphan>,
    looked_at: Option<Micros>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Orphan {
    epoch: Epoch,
    owner: Member,
    since: Micros,
    told: bool,
}

impl Orphans {
    /// Follows the records.
    pub fn watch(&mut self, now: Micros, store: &StoreState) {
        let orphaned = store.groups().filter(|g| g.mode != Mode::Lost && !is_up(store, g.owner));
        let before = std::mem::take(&mut self.since);
        self.since = orphaned
            .map(|g| {
                let fresh = Orphan { epoch: g.epoch, owner: g.owner, since: now, told: false };
                (g.group, before.get(&g.group).filter(|o| o.epoch == g.epoch).copied().unwrap_or(fresh))
            })
            .collect();
    }

    /// The machine was away for longer than this process's pauses take: so could nobody join.
    fn excuse(&mut self, now: Micros, pause_us: u64) {
        if self.looked_at.is_some_and(|at| now.saturating_sub(at) > pause_us) {
            self.since.values_mut().for_each(|o| o.since = now);
        }
        self.looked_at = Some(now);
    }
}

impl Orchestrator {
    /// Tells of new orphans, and gives up those that nobody has claimed in time.
    pub(super) fn watch_orphans(&mut self, now: Micros, out: &mut Vec<OrchestratorCommand>) {
        self.orphans.excuse(now, self.config.suspicion.own_pause_us);
        let claim_us = self.config.claim_us;
        let mut late = Vec::new();
        for (group, orphan) in &mut self.orphans.since {
            if !std::mem::replace(&mut orphan.told, true) {
                out.push(OrchestratorCommand::Note(Note::Orphaned { group: *group, owner: orphan.owner }));
            }
            if now.saturating_sub(orphan.since) >= claim_us {
                late.push(Intent::Lost { group: *group, epoch: orphan.epoch });
            }
        }
        for intent in late {
            self.want(intent, out);
        }
    }
}

/// Decides about every group whose owner is not (inc, Up). Its standby, if that is (inc, Up), owns it from now on; else
/// the `claimant`, if the record names its former life; else the group stays as it is while one of the lives that it
/// names may still come back with its memory. Returns what the claimant got.
pub(super) fn settle_orphans(
    config: &OrchestratorConfig,
    draft: &mut Draft<'_>,
    claimant: Option<Claimant>,
) -> Vec<GroupId> {
    let mut claimed = Vec::new();
    for record in draft.groups() {
        if record.mode == Mode::Lost || draft.is_up(record.owner) {
            continue;
        }
        let heir = record.standby.and_then(|s| heir(config, draft, s)).filter(|s| s.node != record.owner.node);
        let claim = claimant.filter(|c| record.owner == c.former || record.standby == Some(c.former));
        match (heir, claim) {
            (Some(to), _) if record.mode == Mode::Paired => hand_to(draft, record, to),
            (_, Some(claimant)) => {
                claimed.push(record.group);
                let taken = record.handed_to(claimant.now);
                draft.put(Record::Group(taken));
                draft.note(Note::Claimed { group: taken.group, epoch: taken.epoch, to: claimant.now });
            }
            _ if can_claim(draft, record.owner) || record.standby.is_some_and(|s| can_claim(draft, s)) => {}
            _ => lose(draft, record),
        }
    }
    claimed
}

/// Nobody has claimed the group at this epoch in time.
pub(super) fn give_up(reports: &LeaseReports, draft: &mut Draft<'_>, group: GroupId, epoch: Epoch) {
    let Some(record) = draft.group(group).filter(|r| r.epoch == epoch && r.mode != Mode::Lost) else { return };
    let heir_is_up = record.standby.is_some_and(|s| draft.is_up(s));
    if !draft.is_up(record.owner) && !heir_is_up {
        lose(draft, record);
        spread_buckets(reports, draft);
    }
}

/// Hands a group to a member.
pub(super) fn hand_to(draft: &mut Draft<'_>, record: GroupRecord, to: Member) {
    let handed = record.handed_to(to);
    draft.put(Record::Group(handed));
    draft.note(Note::Handed { group: handed.group, epoch: handed.epoch, to });
}

fn lose(draft: &mut Draft<'_>, record: GroupRecord) {
    draft.put(Record::Group(record.lost()));
    draft.note(Note::Lost { group: record.group, owner: record.owner });
}

/// The life is Dead, and its node has not joined anew: the process may live and remember. By its next join it goes on
/// with what it gets then, and has dropped everything else.
fn can_claim(draft: &mut Draft<'_>, member: Member) -> bool {
    draft.node(member.node).is_some_and(|n| n.member == member && n.state == NodeState::Dead && n.memory != 0)
}

fn heir(config: &OrchestratorConfig, draft: &mut Draft<'_>, standby: Member) -> Option<Member> {
    if config.broken == Some(Mutant::PromoteAmnesiac) {
        return draft.node(standby.node).filter(|n| n.state == NodeState::Up).map(|n| n.member);
    }
    draft.is_up(standby).then_some(standby)
}

fn is_up(store: &StoreState, member: Member) -> bool {
    store.node(member.node).is_some_and(|n| n.is_up(member))
}
