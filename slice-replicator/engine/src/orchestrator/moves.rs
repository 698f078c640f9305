//! T9: slices leave a group for one of their own, whose owner is the former one's standby.

use super::command::{Note, Receiver};
use super::config::OrchestratorConfig;
use super::draft::Draft;
use crate::store::{ClusterRecord, Key, Record};
use escape_proto::{
    Epoch, FromOrchestrator, GroupId, GroupRecord, Member, Mode, MoveOutcome, MoveRecord, NodeState, QuarantineRecord,
    SliceId,
};

/// The owner of a group asks for it. In one transaction: the group is as the owner knows it, both nodes are Up, the new
/// group is there, and so is the record that tells every holder of an image where the slices are from now on.
pub(super) fn begin(
    config: &OrchestratorConfig,
    draft: &mut Draft<'_>,
    from: Member,
    (attempt, group, epoch): (u64, GroupId, Epoch),
    slices: Vec<SliceId>,
) {
    let made = draft.moves().into_iter().find(|m| m.by == from && m.attempt == attempt);
    let outcome = match made {
        // The same request again: it was made (R1).
        Some(made) => MoveOutcome::Moved(made.to),
        None => match examine(config, draft, from, (group, epoch), &slices) {
            Ok((cluster, standby)) => {
                let to = GroupId(cluster.next_group);
                let waits_for = vec![from, standby];
                draft.put(Record::Cluster(ClusterRecord { next_group: cluster.next_group + 1, ..cluster }));
                draft.put(Record::Group(GroupRecord::of_move(to, standby, from)));
                take_along(draft, (group, to), &slices);
                let slices_moved = slices.len();
                draft.put(Record::Move(MoveRecord { to, from: group, slices, by: from, attempt, waits_for }));
                draft.note(Note::Moved { from, to: standby, group: to, slices: slices_moved });
                MoveOutcome::Moved(to)
            }
            Err(cause) => MoveOutcome::Refused { cause },
        },
    };
    draft.send(Receiver::Node(from), FromOrchestrator::MoveOutcome { attempt, group, outcome });
}

/// What is known of bad slices goes with them.
fn take_along(draft: &mut Draft<'_>, (from, to): (GroupId, GroupId), slices: &[SliceId]) {
    for record in draft.quarantine().into_iter().filter(|r| r.group == from && slices.contains(&r.slice)) {
        draft.put(Record::Quarantine(QuarantineRecord { group: to, ..record }));
    }
}

/// A life has put a move in order; the record goes when nobody is left who may still have to.
pub(super) fn settled(draft: &mut Draft<'_>, from: Member, to: GroupId) {
    let Some(Record::Move(record)) = draft.get(Key::Move(to)).cloned() else { return };
    // A later life of the node speaks for the former one: it has forgotten, or has put in order what it went on with.
    let others = record.waits_for.iter().copied().filter(|m| m.node != from.node || m.inc > from.inc);
    let left: Vec<Member> = others.collect();
    if left.len() != record.waits_for.len() {
        keep_for(draft, record, left);
    }
}

fn keep_for(draft: &mut Draft<'_>, record: MoveRecord, left: Vec<Member>) {
    if left.is_empty() {
        draft.delete(Key::Move(record.to));
    } else {
        draft.put(Record::Move(MoveRecord { waits_for: left, ..record }));
    }
}

/// Makes room: a life that is over and that no record names any more has nothing to put in order, whatever it remembers.
fn forget_the_dead(draft: &mut Draft<'_>) {
    let groups = draft.groups();
    let named = |member: Member| groups.iter().any(|g| g.owner == member || g.standby == Some(member));
    for record in draft.moves() {
        let is_over = |draft: &mut Draft<'_>, member: Member| {
            let node = draft.node(member.node);
            node.is_some_and(|n| n.member != member || n.state == NodeState::Dead) && !named(member)
        };
        let left: Vec<Member> = record.waits_for.iter().copied().filter(|m| !is_over(draft, *m)).collect();
        if left.len() != record.waits_for.len() {
            keep_for(draft, record, left);
        }
    }
}

fn examine(
    config: &OrchestratorConfig,
    draft: &mut Draft<'_>,
    from: Member,
    (group, epoch): (GroupId, Epoch),
    slices: &[SliceId],
) -> Result<(ClusterRecord, Member), String> {
    let Some(Record::Cluster(cluster)) = draft.get(Key::Cluster).cloned() else {
        return Err("the store is empty".to_owned());
    };
    let Some(record) = draft.group(group) else { return Err(format!("there is no group {group}")) };
    if record.owner != from || record.epoch != epoch || !draft.is_up(from) {
        return Err(format!("group {group} is at epoch {}, owned by {}", record.epoch, record.owner));
    }
    let Some(standby) = record.standby.filter(|_| record.mode == Mode::Paired) else {
        return Err(format!("group {group} has no standby"));
    };
    if !draft.is_up(standby) {
        return Err(format!("{standby}, the standby of group {group}, is not in the cell any more"));
    }
    if slices.is_empty() || slices.len() > MoveRecord::SLICES_MAX {
        return Err(format!("a move takes 1 to {} slices", MoveRecord::SLICES_MAX));
    }
    let given_up = |r: &QuarantineRecord| r.given_up && r.group == group && slices.contains(&r.slice);
    if let Some(record) = draft.quarantine().into_iter().find(given_up) {
        return Err(format!("slice {} was given up", record.slice));
    }
    if draft.moves().len() >= config.moves_max {
        forget_the_dead(draft);
        if draft.moves().len() >= config.moves_max {
            return Err(format!("{} moves are not in order yet; is a node cut off?", config.moves_max));
        }
    }
    if draft.groups().len() >= config.groups_max {
        return Err(format!("the cell has {} groups, at most {}", draft.groups().len(), config.groups_max));
    }
    Ok((cluster, standby))
}
