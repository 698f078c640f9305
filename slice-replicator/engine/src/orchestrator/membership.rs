//! T1 (join) and T5 (dead): who is in the cell, and whose groups go where.

use super::command::{Note, Receiver};
use super::config::OrchestratorConfig;
use super::draft::{Draft, Effect};
use super::event::LinkId;
use super::leases::{LeaseReports, drain_leases, lease};
use super::orphans::{Claimant, settle_orphans};
use super::placement::spread_buckets;
use crate::store::{ClusterRecord, Key, Record};
use crate::{Mutant, Suspicion};
use escape_proto::{
    FromOrchestrator, GroupId, GroupRecord, Incarnation, JoinReply, JoinRequest, LeaseRecord, LeaseState, Member, Mode,
    NodeId, NodeRecord, NodeState,
};

/// Longest host label and address in a join, bytes.
const LABEL_MAX: usize = 128;

/// T1. The answer goes to the link, all records follow.
pub(super) fn join(
    config: &OrchestratorConfig,
    reports: &LeaseReports,
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
    if let Some(record) = former.as_ref().filter(|r| r.state == NodeState::Up && remembers(r, &request)) {
        return join_again(draft, link, record.member, cluster);
    }
    let me = Member { node, inc: Incarnation(former.as_ref().map_or(0, |r| r.member.inc.0) + 1) };
    draft.put(Record::Node(NodeRecord {
        member: me,
        state: NodeState::Up,
        host: request.host.clone(),
        digest: request.digest,
        addr: request.addr.clone(),
        memory: request.memory,
    }));
    let mut claimant = None;
    if let Some(former) = former {
        if config.broken == Some(Mutant::OwnerAmnesia) {
            keep_groups(draft, former.member, me);
        }
        // The former life is over, whether it was declared dead or not.
        drain_leases(draft, former.member);
        claimant = remembers(&former, &request).then_some(Claimant { former: former.member, now: me });
    }
    let first = cluster.next_group;
    let next_group = first.saturating_add(config.groups_per_node);
    for group in first..next_group {
        draft.put(Record::Group(GroupRecord::fresh(GroupId(group), me)));
    }
    draft.put(Record::Cluster(ClusterRecord { next_group, digest: Some(request.digest), ..cluster }));
    let leases = lease(config, draft, me, request.leases);
    let claimed = settle_orphans(config, draft, claimant);
    spread_buckets(reports, draft);
    welcome(draft, link, me, cluster, leases, claimed);
    draft.note(Note::Joined { member: me });
}

/// The answer to this process's join was lost: its life has begun, and it has done nothing in it yet.
fn join_again(draft: &mut Draft<'_>, link: LinkId, me: Member, cluster: ClusterRecord) {
    let leases = draft.leases().into_iter().filter(|l| l.holder == me && l.state == LeaseState::Active).collect();
    let own = draft.groups().into_iter().filter(|g| g.owner == me && g.mode != Mode::Lost).map(|g| g.group).collect();
    welcome(draft, link, me, cluster, leases, own);
}

fn welcome(
    draft: &mut Draft<'_>,
    link: LinkId,
    me: Member,
    cluster: ClusterRecord,
    leases: Vec<LeaseRecord>,
    claimed: Vec<GroupId>,
) {
    let ClusterRecord { cluster, placement_seed, .. } = cluster;
    let reply = JoinReply::Joined { me, cluster, leases, claimed, moves: draft.moves(), placement_seed };
    draft.send(Receiver::Link(link), FromOrchestrator::Join(reply));
    draft.effects.push(Effect::SendAll(Receiver::Link(link)));
}

/// Does the process that asks still have the memory of the life that the record is of? Nobody else knows its name.
const fn remembers(record: &NodeRecord, request: &JoinRequest) -> bool {
    request.memory != 0 && request.memory == record.memory
}

/// T5: one transaction marks the node dead and hands its groups over.
pub(super) fn dead(config: &OrchestratorConfig, reports: &LeaseReports, draft: &mut Draft<'_>, member: Member) {
    let Some(record) = draft.node(member.node).filter(|r| r.is_up(member)) else { return };
    draft.put(Record::Node(NodeRecord { state: NodeState::Dead, ..record }));
    draft.note(Note::Dead { member });
    drain_leases(draft, member);
    settle_orphans(config, draft, None);
    spread_buckets(reports, draft);
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
