//! Changes that owners ask for: T3, T4 and T11.

use super::command::Receiver;
use super::draft::Draft;
use super::orphans::hand_to;
use crate::store::Record;
use escape_proto::{CasOutcome, FromOrchestrator, GroupId, GroupRecord, Member, Mode};

/// A compare-and-swap of one group by its owner.
pub(super) fn cas(draft: &mut Draft<'_>, from: Member, attempt: u64, to: GroupRecord) {
    let Some(record) = draft.group(to.group) else {
        return answer(draft, from, attempt, to.group, CasOutcome::NoGroup);
    };
    let outcome = if record == to && record.owner == from {
        // The same request again: it was made (R1).
        CasOutcome::Applied(record)
    } else if may_change(draft, from, record, to) {
        draft.put(Record::Group(to));
        CasOutcome::Applied(to)
    } else {
        CasOutcome::Refused(record)
    };
    answer(draft, from, attempt, to.group, outcome);
}

/// What is the record?
pub(super) fn read(draft: &mut Draft<'_>, from: Member, attempt: u64, group: GroupId) {
    let outcome = draft.group(group).map_or(CasOutcome::NoGroup, CasOutcome::Is);
    answer(draft, from, attempt, group, outcome);
}

/// T11: the guest is down, its node is not. Paired groups go to their standbys; Solo ones stay.
pub(super) fn guest_down(draft: &mut Draft<'_>, from: Member) {
    if !draft.is_up(from) {
        return;
    }
    for record in draft.groups() {
        if record.owner == from
            && record.mode == Mode::Paired
            && let Some(standby) = record.standby
            && draft.is_up(standby)
        {
            hand_to(draft, record, standby);
        }
    }
}

/// Only the owner, Up, changes its group's protection, one epoch at a time: T3 to a node that is Up on another host; T4
/// if the old standby's life is over (R2); Solo to Solo any time (R4).
fn may_change(draft: &mut Draft<'_>, from: Member, record: GroupRecord, to: GroupRecord) -> bool {
    let own = record.owner == from && to.owner == from && record.mode != Mode::Lost && draft.is_up(from);
    if !own || to.epoch != record.epoch.next() {
        return false;
    }
    match (to.mode, to.standby) {
        (Mode::Paired, Some(standby)) => draft.is_up(standby) && are_apart(draft, from, standby),
        (Mode::Solo, None) => record.standby.is_none_or(|old| !draft.is_up(old)),
        _ => false,
    }
}

fn are_apart(draft: &mut Draft<'_>, a: Member, b: Member) -> bool {
    let (a, b) = (draft.node(a.node), draft.node(b.node));
    a.zip(b).is_some_and(|(a, b)| a.node() != b.node() && a.host != b.host)
}

fn answer(draft: &mut Draft<'_>, from: Member, attempt: u64, group: GroupId, outcome: CasOutcome) {
    draft.send(Receiver::Node(from), FromOrchestrator::Outcome { attempt, group, outcome });
}
