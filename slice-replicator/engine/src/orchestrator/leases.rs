//! Leases: given at a join or when a node runs out, Draining when their holder's life is over, Free again when nobody
//! holds anything in them (T10).

use super::config::OrchestratorConfig;
use super::draft::Draft;
use super::quarantine::forget_lease;
use crate::Mutant;
use crate::store::{Key, Record};
use escape_proto::{LeaseId, LeaseRecord, LeaseReport, LeaseState, Member, Mode, NodeState, records_mark};
use std::collections::BTreeMap;

/// The latest report of each node that is Up.
pub(super) type LeaseReports = BTreeMap<Member, LeaseReport>;

/// Gives leases that nobody has; fewer than wanted if the arena is used up.
pub(super) fn lease(
    config: &OrchestratorConfig,
    draft: &mut Draft<'_>,
    holder: Member,
    wanted: u32,
) -> Vec<LeaseRecord> {
    let mut given = Vec::new();
    for lease in (0..config.leases_max).map(LeaseId) {
        if given.len() >= wanted.min(config.leases_per_join_max) as usize {
            break;
        }
        let generation = match draft.get(Key::Lease(lease)) {
            None => 0,
            Some(Record::Lease(r)) if r.state == LeaseState::Free => r.generation,
            Some(_) => continue,
        };
        // An id that was ever given is never given again (I9): a lease without generations left rests.
        let Some(generation) = generation.checked_add(1) else { continue };
        let record = LeaseRecord { lease, holder, generation, state: LeaseState::Active };
        draft.put(Record::Lease(record));
        forget_lease(draft, lease);
        given.push(record);
    }
    given
}

/// Nobody allocates from the leases of a life that is over; slices in them live on elsewhere.
pub(super) fn drain_leases(draft: &mut Draft<'_>, holder: Member) {
    drain(draft, |lease| lease.holder == holder);
}

/// A node has reported: its spent leases drain, it gets more if it wants them, and what has drained becomes Free.
pub(super) fn reported(config: &OrchestratorConfig, reports: &LeaseReports, draft: &mut Draft<'_>, from: Member) {
    let Some(report) = reports.get(&from) else { return };
    if !draft.is_up(from) {
        return;
    }
    drain(draft, |lease| lease.holder == from && report.spent.contains(lease.lease));
    let wanted = report.wanted.min(config.leases_per_node_max);
    let active = draft.leases().iter().filter(|l| l.holder == from && l.state == LeaseState::Active).count();
    let more = wanted.saturating_sub(u32::try_from(active).unwrap_or(u32::MAX));
    if more != 0 {
        lease(config, draft, from, more);
    }
    free_drained(config, reports, draft, from);
}

/// Could [`reported`] do anything?
pub(super) fn is_due(report: &LeaseReport, from: Member, leases: impl Iterator<Item = LeaseRecord>) -> bool {
    let (mut active, mut draining) = (0, false);
    for lease in leases {
        draining |= lease.state == LeaseState::Draining;
        active += u32::from(lease.state == LeaseState::Active && lease.holder == from);
    }
    draining || report.wanted > active || !report.spent.is_empty()
}

/// A live slice is in the hands of its group's owner, who is Up, and who got it when the record came to name it: so a
/// lease is free of slices if all nodes say so that know the very records that are in the store, and no group waits for
/// an owner.
fn free_drained(config: &OrchestratorConfig, reports: &LeaseReports, draft: &mut Draft<'_>, from: Member) {
    let groups = draft.groups();
    // Compared by the transaction, so that they are still the same when it is made.
    let owners: Vec<Member> =
        groups.iter().filter_map(|g| draft.group(g.group)).filter(|g| g.mode != Mode::Lost).map(|g| g.owner).collect();
    let orphaned = owners.into_iter().any(|owner| !draft.is_up(owner));
    let mark = records_mark(groups.iter());
    let up: Vec<Member> = draft.nodes().into_iter().filter(|n| n.state == NodeState::Up).map(|n| n.member).collect();
    let early = config.broken == Some(Mutant::LeaseFreedEarly);
    let asked = if early { vec![from] } else { up };
    let current = |m: &Member| reports.get(m).filter(|r| early || r.mark == mark);
    let Some(all) = asked.iter().map(current).collect::<Option<Vec<_>>>().filter(|_| early || !orphaned) else {
        return;
    };
    for lease in draft.leases() {
        if lease.state == LeaseState::Draining && all.iter().all(|r| !r.held.contains(lease.lease)) {
            draft.put(Record::Lease(LeaseRecord { state: LeaseState::Free, ..lease }));
        }
    }
}

fn drain(draft: &mut Draft<'_>, of: impl Fn(&LeaseRecord) -> bool) {
    for lease in draft.leases() {
        if lease.state == LeaseState::Active && of(&lease) {
            draft.put(Record::Lease(LeaseRecord { state: LeaseState::Draining, ..lease }));
        }
    }
}
