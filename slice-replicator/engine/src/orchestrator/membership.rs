//! T1 (join) and T5 (dead): who is in the cell, and whose groups go where.

use super::command::{Note, Receiver};
use super::config::OrchestratorConfig;
use super::draft::{Draft, Effect};
use super::event::LinkId;
use crate::store::{ClusterRecord, Key, Record};
use crate::{Mutant, Suspicion};
use escape_proto::{
    BucketTable, FromOrchestrator, GroupId, GroupRecord, Incarnation, JoinReply, JoinRequest, LeaseId, LeaseRecord,
    LeaseState, Member, Mode, NodeId, NodeRecord, NodeState,
};
use std::collections::BTreeSet;

/// Longest host label and address in a join, bytes.
const LABEL_MAX: usize = 128;

/// T1. The answer goes to the link, all records follow.
pub(super) fn join(
    config: &OrchestratorConfig,
    draft: &mut Draft<'_>,
    link: LinkId,
    node: NodeId,
    request: JoinRequest,
) {
    let Some(cluster) = cluster(draft) else { return };
    if let Err(cause) = examine(config, draft, cluster, node, &request) {
        draft.note(Note::JoinRefused { node, cause: cause.clone() });
        let reply = FromOrchestrator::Join(JoinReply::Refused { cause });
        return draft.send(Receiver::Link(link), reply);
    }
    let former = draft.node(node);
    let me = Member { node, inc: Incarnation(former.as_ref().map_or(0, |r| r.member.inc.0) + 1) };
    draft.put(Record::Node(NodeRecord {
        member: me,
        state: NodeState::Up,
        host: request.host,
        digest: request.digest,
        addr: request.addr,
    }));
    if let Some(former) = former {
        if config.broken == Some(Mutant::OwnerAmnesia) {
            keep_groups(draft, former.member, me);
        }
        // The former life is over, whether it was declared dead or not.
        drain_leases(draft, former.member);
    }
    let first = cluster.next_group;
    let next_group = first.saturating_add(config.groups_per_node);
    for group in first..next_group {
        draft.put(Record::Group(GroupRecord::fresh(GroupId(group), me)));
    }
    draft.put(Record::Cluster(ClusterRecord { next_group, digest: Some(request.digest), ..cluster }));
    let leases = lease(config, draft, me, request.leases);
    hand_over_orphans(config, draft);
    spread_buckets(draft);
    let reply = JoinReply::Joined { me, cluster: cluster.cluster, leases, placement_seed: cluster.placement_seed };
    draft.send(Receiver::Link(link), FromOrchestrator::Join(reply));
    draft.effects.push(Effect::SendAll(Receiver::Link(link)));
    draft.note(Note::Joined { member: me });
}

/// T5: one transaction marks the node dead and hands its groups over.
pub(super) fn dead(config: &OrchestratorConfig, draft: &mut Draft<'_>, member: Member) {
    let Some(record) = draft.node(member.node).filter(|r| r.is_up(member)) else { return };
    draft.put(Record::Node(NodeRecord { state: NodeState::Dead, ..record }));
    draft.note(Note::Dead { member });
    drain_leases(draft, member);
    hand_over_orphans(config, draft);
    spread_buckets(draft);
}

/// Groups whose owner is not (inc, Up) go to their standby, if that is (inc, Up); else no copy is left. A life that is
/// over has dropped its copies, or does so when it learns of it, so nobody can claim them any more.
pub(super) fn hand_over_orphans(config: &OrchestratorConfig, draft: &mut Draft<'_>) {
    for record in draft.groups() {
        if record.mode == Mode::Lost || draft.is_up(record.owner) {
            continue;
        }
        let heir = record.standby.and_then(|s| heir(config, draft, s)).filter(|s| s.node != record.owner.node);
        match heir {
            Some(to) if record.mode == Mode::Paired => hand_to(draft, record, to),
            _ => {
                draft.put(Record::Group(record.lost()));
                draft.note(Note::Lost { group: record.group, owner: record.owner });
            }
        }
    }
}

/// Hands a group to a member.
pub(super) fn hand_to(draft: &mut Draft<'_>, record: GroupRecord, to: Member) {
    let handed = record.handed_to(to);
    draft.put(Record::Group(handed));
    draft.note(Note::Handed { group: handed.group, epoch: handed.epoch, to });
}

/// Spreads new flows over the groups of nodes that are Up.
pub(super) fn spread_buckets(draft: &mut Draft<'_>) {
    let up: BTreeSet<Member> =
        draft.nodes().into_iter().filter(|n| n.state == NodeState::Up).map(|n| n.member).collect();
    let usable = draft.groups().into_iter().filter(|g| g.mode != Mode::Lost && up.contains(&g.owner));
    let groups: Vec<GroupId> = usable.map(|g| g.group).collect();
    let now = draft.buckets();
    let spread = BucketTable::spread(now.version + 1, &groups);
    if spread.groups != now.groups {
        draft.put(Record::Buckets(spread));
    }
}

fn heir(config: &OrchestratorConfig, draft: &mut Draft<'_>, standby: Member) -> Option<Member> {
    if config.broken == Some(Mutant::PromoteAmnesiac) {
        return draft.node(standby.node).filter(|n| n.state == NodeState::Up).map(|n| n.member);
    }
    draft.is_up(standby).then_some(standby)
}

fn cluster(draft: &mut Draft<'_>) -> Option<ClusterRecord> {
    match draft.get(Key::Cluster) {
        Some(Record::Cluster(r)) => Some(*r),
        _ => None,
    }
}

/// Why a node may not join.
fn examine(
    config: &OrchestratorConfig,
    draft: &Draft<'_>,
    cluster: ClusterRecord,
    node: NodeId,
    request: &JoinRequest,
) -> Result<(), String> {
    let up = draft.nodes().into_iter().filter(|n| n.state == NodeState::Up && n.node() != node).count();
    let revision = draft.store().revision();
    if usize::from(node.0) >= Suspicion::NODES_MAX {
        return Err(format!("node id {node} is too high: ids are below {}", Suspicion::NODES_MAX));
    }
    if request.host.is_empty() || request.host.len() > LABEL_MAX || request.addr.len() > LABEL_MAX {
        return Err(format!("host label and address must be at most {LABEL_MAX} bytes, the label at least one"));
    }
    if let Some(other) = request.cluster.filter(|c| *c != cluster.cluster) {
        let (other, ours) = (hex(&other), hex(&cluster.cluster));
        return Err(format!("node {node} belongs to cluster {other}, this is cluster {ours}"));
    }
    if request.seen > revision {
        return Err(format!(
            "the store is older than what node {node} has seen (revision {revision} < {}): epochs could come twice; \
             restore the newest copy of the store",
            request.seen
        ));
    }
    if let Some(digest) = cluster.digest.filter(|d| *d != request.digest && up != 0) {
        let (theirs, ours) = (hex(&request.digest), hex(&digest));
        return Err(format!("node {node} runs guest image {theirs}, the cell runs {ours}"));
    }
    if up >= config.nodes_max {
        return Err(format!("the cell has {up} nodes already, at most {}", config.nodes_max));
    }
    Ok(())
}

/// Gives leases that nobody has; fewer than wanted if the arena is used up.
fn lease(config: &OrchestratorConfig, draft: &mut Draft<'_>, holder: Member, wanted: u32) -> Vec<LeaseRecord> {
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
        let record = LeaseRecord { lease, holder, generation: generation + 1, state: LeaseState::Active };
        draft.put(Record::Lease(record));
        given.push(record);
    }
    given
}

/// Nobody allocates from the leases of a life that is over; slices in them live on elsewhere.
fn drain_leases(draft: &mut Draft<'_>, holder: Member) {
    for lease in draft.leases() {
        if lease.holder == holder && lease.state == LeaseState::Active {
            draft.put(Record::Lease(LeaseRecord { state: LeaseState::Draining, ..lease }));
        }
    }
}

/// Deliberate fault: the new life owns what the old one owned, although it has forgotten it.
fn keep_groups(draft: &mut Draft<'_>, former: Member, now: Member) {
    for record in draft.groups() {
        if record.owner == former && record.mode != Mode::Lost {
            draft.put(Record::Group(GroupRecord { epoch: record.epoch.next(), owner: now, ..record }));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|b| format!("{b:02x}")).collect()
}
