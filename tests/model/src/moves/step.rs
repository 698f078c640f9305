//! The steps of a move, and what disturbs it.

use super::flaw::Flaw;
use super::state::{Copy, FROM, INTO, MoveRecord, NODES, Phase, REQUESTS_MAX, Record, State};
use crate::promises::{I1, I2, I5, I9};

/// What happens next. Nodes are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The guest of a node serves the next request.
    Serve(u8),
    /// The owner's latest state reaches the standby and is acknowledged.
    Replicate(u8),
    /// Output that is covered leaves.
    Release(u8),
    /// The client closes, and the end is committed.
    Close(u8),
    /// The source begins the move.
    Begin(u8),
    /// The source's present state reaches the target or its standby and is acknowledged.
    Presync(u8, u8),
    /// The slice comes to rest at the source.
    Drain(u8),
    /// Both have the last state: the source asks for the record.
    Ask(u8),
    /// The store decides about it.
    Decide,
    /// The record can go: nobody needs it.
    Delete,
    /// A node sees the records as they are, and does what follows.
    Read(u8),
    /// The owner goes on alone, its standby being dead (T4).
    Solo(u8, u8),
    /// The owner gets a new standby (T3, one step here).
    Protect(u8, u8, u8),
    /// A node dies.
    Crash(u8),
    /// A node is declared dead (T5).
    Dead(u8),
}

/// All that can happen.
pub fn possible(s: &State, flaw: Option<Flaw>, actions: &mut Vec<Action>) {
    if s.broken.is_some() {
        return;
    }
    for n in 0..NODES as u8 {
        let node = &s.nodes[usize::from(n)];
        if s.up[usize::from(n)] && (!node.alive || s.false_deaths > 0) {
            actions.push(Action::Dead(n));
        }
        if !node.alive {
            continue;
        }
        if s.crashes > 0 {
            actions.push(Action::Crash(n));
        }
        actions.push(Action::Read(n));
        if let Some(group) = node.runs {
            of_the_owner(s, flaw, n, group, actions);
        }
        for group in 0..2 {
            let record = node.seen[group as usize];
            if record.owner != Some(n) {
                continue;
            }
            match record.standby {
                Some(standby) if !s.up[usize::from(standby)] => actions.push(Action::Solo(n, group)),
                Some(_) => {}
                None => {
                    let fit = (0..NODES as u8).filter(|m| *m != n && s.up[usize::from(*m)]);
                    actions.extend(fit.map(|m| Action::Protect(n, group, m)));
                }
            }
        }
    }
    if s.asked.is_some() {
        actions.push(Action::Decide);
    }
    if s.moved.is_some() {
        actions.push(Action::Delete);
    }
}

fn of_the_owner(s: &State, flaw: Option<Flaw>, n: u8, group: u8, actions: &mut Vec<Action>) {
    let node = &s.nodes[usize::from(n)];
    let rests = matches!(node.phase, Phase::Drained | Phase::Asked);
    let count = node.copies[usize::from(group)].map_or(0, |c| c.count);
    if !rests && !s.closed {
        if count < REQUESTS_MAX {
            actions.push(Action::Serve(n));
        }
        if group == INTO as u8 {
            actions.push(Action::Close(n));
        }
    }
    actions.extend([Action::Replicate(n), Action::Release(n)]);
    if group != FROM as u8 || s.done {
        return;
    }
    let target = node.seen[INTO];
    match node.phase {
        Phase::Idle if target.owner.is_some_and(|t| t != n) => actions.push(Action::Begin(n)),
        Phase::Syncing | Phase::Drained => {
            let receivers = [target.owner, target.standby].into_iter().flatten().filter(|m| *m != n);
            actions.extend(receivers.map(|m| Action::Presync(n, m)));
            match node.phase {
                Phase::Syncing if flaw == Some(Flaw::NoDrain) => actions.push(Action::Ask(n)),
                Phase::Syncing => actions.push(Action::Drain(n)),
                _ => actions.push(Action::Ask(n)),
            }
        }
        Phase::Idle | Phase::Asked => {}
    }
}

/// The state after an action; the same state if it comes to nothing.
pub fn take(s: &mut State, flaw: Option<Flaw>, action: Action) {
    match action {
        Action::Serve(n) => serve(s, n),
        Action::Replicate(n) => replicate(s, n),
        Action::Release(n) => release(s, n),
        Action::Close(n) => close(s, n),
        Action::Begin(n) => s.nodes[usize::from(n)].phase = Phase::Syncing,
        Action::Presync(n, to) => presync(s, flaw, n, to),
        Action::Drain(n) => s.nodes[usize::from(n)].phase = Phase::Drained,
        Action::Ask(n) => ask(s, flaw, n),
        Action::Decide => decide(s, flaw),
        Action::Delete => delete(s, flaw),
        Action::Read(n) => read(s, flaw, n),
        Action::Solo(n, group) => {
            let record = s.nodes[usize::from(n)].seen[usize::from(group)];
            swap(s, usize::from(group), record, Record { epoch: record.epoch + 1, standby: None, ..record });
        }
        Action::Protect(n, group, with) => protect(s, n, usize::from(group), with),
        Action::Crash(n) => {
            s.crashes -= 1;
            end(s, n);
        }
        Action::Dead(n) => dead(s, n),
    }
    judge(s);
}

fn serve(s: &mut State, n: u8) {
    let node = &mut s.nodes[usize::from(n)];
    if let Some(group) = node.runs
        && let Some(copy) = &mut node.copies[usize::from(group)]
    {
        *copy = copy.serve(n);
    }
}

/// The standby takes it only if both have the same record of the group (the fence).
fn replicate(s: &mut State, n: u8) {
    let node = s.nodes[usize::from(n)];
    let Some(group) = node.runs.map(usize::from) else { return };
    let record = node.seen[group];
    let Some(standby) = record.standby.map(usize::from) else { return };
    let to = &mut s.nodes[standby];
    if to.alive && to.seen[group] == record {
        to.copies[group] = node.copies[group];
    }
}

/// Output leaves once the standby has what it tells; Solo: the own copy is enough.
fn release(s: &mut State, n: u8) {
    let node = s.nodes[usize::from(n)];
    let Some(group) = node.runs.map(usize::from) else { return };
    let Some(copy) = node.copies[group] else { return };
    let record = node.seen[group];
    if let Some(standby) = record.standby.map(usize::from)
        && (!s.nodes[standby].alive
            || s.nodes[standby].copies[group].is_none_or(|c| c != copy)
            || s.nodes[standby].seen[group] != record)
    {
        return;
    }
    let first = *s.released[usize::from(copy.count)].get_or_insert(copy.served_by);
    if first != copy.served_by {
        s.violate(I2, format!("node {n}: reply {} leaves with another content", copy.count));
    }
}

fn close(s: &mut State, n: u8) {
    let node = s.nodes[usize::from(n)];
    let record = node.seen[INTO];
    if let Some(standby) = record.standby.map(usize::from) {
        if !s.nodes[standby].alive || s.nodes[standby].seen[INTO] != record {
            return;
        }
        s.nodes[standby].copies[INTO] = None;
    }
    s.nodes[usize::from(n)].copies[INTO] = None;
    s.nodes[usize::from(n)].runs = None;
    s.closed = true;
}

/// A copy of what is not a member of the group yet. The receiver takes it at the record of its group that the source
/// knows, and none of an older epoch of the source's group than the one it has (R9).
fn presync(s: &mut State, flaw: Option<Flaw>, n: u8, to: u8) {
    let node = s.nodes[usize::from(n)];
    let epoch = node.seen[FROM].epoch;
    let target = &mut s.nodes[usize::from(to)];
    let newer = |c: Copy| c.member || (c.source_epoch > epoch && flaw != Some(Flaw::PresyncNotFenced));
    if let Some(copy) = node.copies[FROM]
        && target.alive
        && target.seen[INTO] == node.seen[INTO]
        && !target.copies[INTO].is_some_and(newer)
    {
        target.copies[INTO] = Some(copy.on_its_way(epoch));
    }
}

fn ask(s: &mut State, flaw: Option<Flaw>, n: u8) {
    let node = s.nodes[usize::from(n)];
    let record = node.seen[INTO];
    let copy = node.copies[FROM];
    let has = |m: u8| {
        let there = &s.nodes[usize::from(m)];
        let image = there.copies[INTO];
        let same = flaw == Some(Flaw::NoDrain) && image.is_some()
            || image.zip(copy).is_some_and(|(i, c)| (i.count, i.served_by) == (c.count, c.served_by));
        there.alive && there.seen[INTO] == record && same
    };
    let all = [record.owner, record.standby].into_iter().flatten().filter(|m| *m != n).all(has);
    if !all || record.owner.is_none() {
        return;
    }
    // The source itself may hold the target's group: it has the state.
    if [record.owner, record.standby].contains(&Some(n)) {
        s.nodes[usize::from(n)].copies[INTO] = copy.map(|c| c.on_its_way(node.seen[FROM].epoch));
    }
    let wanted = MoveRecord { from: node.seen[FROM].epoch, into: record.epoch };
    s.nodes[usize::from(n)].phase = Phase::Asked;
    if flaw == Some(Flaw::MoveWithoutRecord) {
        // The target is told directly.
        s.done = true;
        if let Some(target) = record.owner {
            move_out(s, n);
            move_in(s, target);
        }
        return;
    }
    s.asked = Some(wanted);
}

fn decide(s: &mut State, flaw: Option<Flaw>) {
    let Some(wanted) = s.asked.take() else { return };
    let from = s.records[FROM].epoch == wanted.from || flaw == Some(Flaw::SourceNotCompared);
    let into = s.records[INTO].epoch == wanted.into || flaw == Some(Flaw::TargetNotCompared);
    if from && into && !s.done {
        s.moved = Some(wanted);
        s.done = true;
        if s.records[INTO].owner.is_none() {
            s.violate(I5, "the slice is moved into a group that is lost".to_owned());
        }
    }
}

/// All old copies are purged, and the target's standby knows that it has a member.
fn delete(s: &mut State, flaw: Option<Flaw>) {
    let living = |n: &&super::state::Node| n.alive;
    let old = s.nodes.iter().filter(living).any(|n| n.copies[FROM].is_some());
    let holders = [s.records[INTO].owner, s.records[INTO].standby].into_iter().flatten();
    let news =
        holders.map(|n| &s.nodes[usize::from(n)]).filter(living).any(|n| n.copies[INTO].is_some_and(|c| !c.member));
    if (!old || flaw == Some(Flaw::DeletedEarly)) && !news {
        s.moved = None;
    }
}

fn move_out(s: &mut State, n: u8) {
    let node = &mut s.nodes[usize::from(n)];
    node.copies[FROM] = None;
    node.phase = Phase::Idle;
    if node.runs == Some(FROM as u8) {
        node.runs = None;
    }
}

fn move_in(s: &mut State, n: u8) {
    let node = &mut s.nodes[usize::from(n)];
    if let Some(copy) = &mut node.copies[INTO] {
        copy.enter();
        node.runs = Some(INTO as u8);
    }
}

/// A node sees the records, the moves among them, as of one revision.
fn read(s: &mut State, flaw: Option<Flaw>, n: u8) {
    let at = usize::from(n);
    if !s.up[at] {
        return end(s, n);
    }
    for group in [FROM, INTO] {
        let (old, new) = (s.nodes[at].seen[group], s.records[group]);
        s.nodes[at].seen[group] = new;
        let named = new.owner == Some(n) || new.standby == Some(n);
        if old != new && !named {
            s.nodes[at].copies[group] = None;
        }
        if s.nodes[at].runs == Some(group as u8) && new.owner != Some(n) {
            s.nodes[at].runs = None;
        }
    }
    let moved = s.moved.is_some() && flaw != Some(Flaw::MovesIgnored);
    if moved {
        move_out(s, n);
    } else if s.nodes[at].phase == Phase::Asked && s.asked.is_none() && flaw != Some(Flaw::MoveWithoutRecord) {
        // Refused: it was decided, and there is no record.
        s.nodes[at].phase = Phase::Idle;
    }
    for group in [FROM, INTO] {
        let node = &mut s.nodes[at];
        let Some(copy) = &mut node.copies[group] else { continue };
        if group == INTO && s.moved.is_some() {
            copy.enter();
        }
        if node.seen[group].owner == Some(n) && copy.member && node.runs.is_none() {
            node.runs = Some(group as u8);
            activated(s, n, group);
        }
    }
}

fn activated(s: &mut State, n: u8, group: usize) {
    let Some(copy) = s.nodes[usize::from(n)].copies[group] else { return };
    if s.closed {
        s.violate(I9, format!("node {n} activates the slice in group {group}: it is closed"));
    }
    if s.records[group].owner == Some(n) && copy.count < s.newest() {
        s.violate(I1, format!("node {n} activates the slice at {}, request {} is answered", copy.count, s.newest()));
    }
}

fn swap(s: &mut State, group: usize, expected: Record, wanted: Record) -> bool {
    let made = s.records[group] == expected && expected.owner.is_some_and(|o| s.up[usize::from(o)]);
    if made {
        s.records[group] = wanted;
    }
    made
}

fn protect(s: &mut State, n: u8, group: usize, with: u8) {
    let record = s.nodes[usize::from(n)].seen[group];
    let wanted = Record { epoch: record.epoch + 1, standby: Some(with), ..record };
    let copy = s.nodes[usize::from(n)].copies[group];
    let there = &s.nodes[usize::from(with)];
    // While the move's outcome is open nothing else is changed; the other group's copy stays what it is.
    let busy = s.nodes[usize::from(n)].phase != Phase::Idle;
    if busy || !there.alive || there.seen[group].epoch > record.epoch || !swap(s, group, record, wanted) {
        return;
    }
    for m in [n, with] {
        s.nodes[usize::from(m)].seen[group] = wanted;
    }
    s.nodes[usize::from(with)].copies[group] = copy;
}

fn dead(s: &mut State, n: u8) {
    s.up[usize::from(n)] = false;
    if s.nodes[usize::from(n)].alive {
        s.false_deaths -= 1;
    }
    for group in [FROM, INTO] {
        let record = s.records[group];
        if record.owner == Some(n) {
            let heir = record.standby.filter(|m| s.up[usize::from(*m)]);
            s.records[group] = Record { epoch: record.epoch + 1, owner: heir, standby: None };
        }
    }
}

fn end(s: &mut State, n: u8) {
    let node = &mut s.nodes[usize::from(n)];
    node.alive = false;
    node.copies = [None; 2];
    node.runs = None;
    node.phase = Phase::Idle;
}

/// Whoever the records make a holder of the slice and lives has all that was released.
fn judge(s: &mut State) {
    if s.closed {
        return;
    }
    let group = if s.done { INTO } else { FROM };
    let record = s.records[group];
    let newest = s.newest();
    for holder in [record.owner, record.standby].into_iter().flatten() {
        let node = s.nodes[usize::from(holder)];
        if node.alive && s.up[usize::from(holder)] && node.copies[group].is_none_or(|c| c.count < newest) {
            let has = node.copies[group].map(|c| c.count);
            return s.violate(
                I5,
                format!("node {holder} holds group {group} and has {has:?}; request {newest} is answered"),
            );
        }
    }
}
