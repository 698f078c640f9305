//! The orchestrator's machine: requests and suspicions in, transactions and records out.

use super::command::{Note, OrchestratorCommand, Receiver};
use super::config::OrchestratorConfig;
use super::draft::{Draft, Effect};
use super::event::{LinkId, OrchestratorEvent, Peer, TxnFailure};
use super::leases::LeaseReports;
use super::orphans::Orphans;
use super::quarantine::QuarantineTimes;
use super::{change, leases, membership, moves, orphans, placement, quarantine};
use crate::store::{Changes, ClusterRecord, Record, StoreState, Txn};
use crate::{Micros, Suspicion};
use escape_proto::{
    Epoch, FromOrchestrator, GroupId, GroupRecord, JoinRequest, LeaseReport, LeaseState, Member, MoveRecord, NodeId,
    NodeState, SliceId, Suspect, ToOrchestrator,
};
use std::collections::{BTreeSet, VecDeque};

/// Placement, failover decisions, and the only writer of the store.
///
/// One transaction is under way at a time; what comes meanwhile goes into the next one together. Answers and records
/// leave only after the transaction that they tell of is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Orchestrator {
    pub(super) config: OrchestratorConfig,
    /// The store as of the latest transaction that is known to be durable.
    pub(super) store: Option<StoreState>,
    pub(super) suspicion: Suspicion,
    pub(super) suspected: BTreeSet<Member>,
    /// Decided dead, not yet Dead in the store.
    pub(super) condemned: BTreeSet<Member>,
    pub(super) orphans: Orphans,
    lease_reports: LeaseReports,
    pub(super) quarantine_times: QuarantineTimes,
    /// What waits for the next transaction; bounded by `requests_max` (decisions of our own are always taken).
    pub(super) queue: VecDeque<Intent>,
    under_way: Option<UnderWay>,
    last_txn: u64,
}

/// Something that the next transaction decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Intent {
    /// The store is new, or its reader is: see to it that the cluster record is there and no group is orphaned.
    Settle,
    Join {
        link: LinkId,
        node: NodeId,
        request: JoinRequest,
    },
    Cas {
        from: Member,
        attempt: u64,
        to: GroupRecord,
    },
    Read {
        from: Member,
        attempt: u64,
        group: GroupId,
    },
    Move {
        from: Member,
        attempt: u64,
        group: GroupId,
        epoch: Epoch,
        slices: Vec<SliceId>,
    },
    /// A node has put a move in order in its memory.
    Moved {
        from: Member,
        to: GroupId,
    },
    GuestDown {
        from: Member,
        crash: u64,
        referenced: u32,
        suspects: Vec<Suspect>,
    },
    /// A node has given up a slice.
    Quarantine {
        from: Member,
        suspect: Suspect,
        cause: String,
    },
    /// What was known of a slice is too old.
    Forget {
        slice: SliceId,
    },
    Dead {
        member: Member,
    },
    /// Nobody has claimed the group in time.
    Lost {
        group: GroupId,
        epoch: Epoch,
    },
    /// The node has reported what it holds.
    Leases {
        from: Member,
    },
    /// A guest is up, or is not any more: new flows go elsewhere.
    Place,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UnderWay {
    id: u64,
    txn: Txn,
    intents: Vec<Intent>,
    effects: Vec<Effect>,
    sent_at: Micros,
}

/// Who hears of every change.
const TELL_ALL: [Receiver; 2] = [Receiver::AllNodes, Receiver::Edge];

impl Orchestrator {
    /// An orchestrator that has not read the store yet.
    pub fn new(config: OrchestratorConfig) -> Self {
        let suspicion = Suspicion::new(config.suspicion);
        Self {
            config,
            store: None,
            suspicion,
            suspected: BTreeSet::new(),
            condemned: BTreeSet::new(),
            orphans: Orphans::default(),
            lease_reports: LeaseReports::new(),
            quarantine_times: QuarantineTimes::default(),
            queue: VecDeque::new(),
            under_way: None,
            last_txn: 0,
        }
    }

    /// Takes an event at local time `now` (microseconds, never going back) and appends what is to be done to `out`.
    pub fn on(&mut self, now: Micros, event: OrchestratorEvent, out: &mut Vec<OrchestratorCommand>) {
        match event {
            OrchestratorEvent::Started { image } => {
                self.store = Some(*image);
                self.watch(now);
                TELL_ALL.into_iter().for_each(|to| self.tell_all_records(to, out));
                self.queue.push_front(Intent::Settle);
            }
            OrchestratorEvent::Join { link, node, request } => self.want(Intent::Join { link, node, request }, out),
            OrchestratorEvent::LinkUp(Peer::Node(member)) => self.tell_all_records(Receiver::Node(member), out),
            OrchestratorEvent::LinkUp(Peer::Edge) => self.tell_all_records(Receiver::Edge, out),
            OrchestratorEvent::LinkDown(Peer::Node(member)) => self.suspicion.hint(member),
            OrchestratorEvent::LinkDown(Peer::Edge) => {}
            OrchestratorEvent::Request { from, request } => self.request(from, request, out),
            OrchestratorEvent::Beat(beat) => {
                self.suspicion.beat(now, &beat);
            }
            OrchestratorEvent::TxnDone { id, result } => self.txn_done(now, id, result, out),
            OrchestratorEvent::Tick => {
                self.detect(now, out);
                self.watch_orphans(now, out);
                self.expire_quarantine(now);
                self.repeat_txn(now, out);
            }
        }
        self.transact(now, out);
    }

    /// The store as this orchestrator knows it.
    pub const fn store(&self) -> Option<&StoreState> {
        self.store.as_ref()
    }

    /// Nodes that the orchestrator suspects now.
    pub fn suspected(&self) -> impl Iterator<Item = Member> {
        self.suspected.iter().copied()
    }

    /// Leases that nobody has.
    pub fn leases_free(&self) -> u32 {
        let taken = self.store.iter().flat_map(StoreState::leases).filter(|lease| lease.state != LeaseState::Free);
        self.config.leases_max.saturating_sub(u32::try_from(taken.count()).unwrap_or(u32::MAX))
    }

    fn request(&mut self, from: Member, request: ToOrchestrator, out: &mut Vec<OrchestratorCommand>) {
        match request {
            // A join comes on a link that has no member yet; figures of groups decide nothing, the runtime keeps them.
            // So does an operator's wish.
            ToOrchestrator::Join(_) | ToOrchestrator::GroupCounts(_) | ToOrchestrator::MoveAnswer { .. } => {}
            ToOrchestrator::Cas { attempt, to } => self.want(Intent::Cas { from, attempt, to }, out),
            ToOrchestrator::Read { attempt, group } => self.want(Intent::Read { from, attempt, group }, out),
            ToOrchestrator::Move { attempt, group, epoch, slices } => {
                if slices.len() <= MoveRecord::SLICES_MAX {
                    self.want(Intent::Move { from, attempt, group, epoch, slices }, out);
                }
            }
            ToOrchestrator::Moved { to } => self.want(Intent::Moved { from, to }, out),
            ToOrchestrator::GuestDown { cause: _, crash, referenced, mut suspects } => {
                suspects.truncate(quarantine::SUSPECTS_MAX);
                self.want(Intent::GuestDown { from, crash, referenced, suspects }, out);
            }
            ToOrchestrator::Quarantine { suspect, cause } => {
                let cause = cause.chars().take(quarantine::CAUSE_MAX).collect();
                self.want(Intent::Quarantine { from, suspect, cause }, out);
            }
            ToOrchestrator::Leases(report) => self.lease_report(from, report, out),
            ToOrchestrator::Counts(counts) => {
                out.push(OrchestratorCommand::Note(Note::Counts { from, counts }));
            }
            ToOrchestrator::Milestone { at_us, what } => {
                out.push(OrchestratorCommand::Note(Note::Milestone { from, at_us, what }));
            }
        }
    }

    /// Keeps a node's report; the records decide whether anything follows from it.
    fn lease_report(&mut self, from: Member, report: LeaseReport, out: &mut Vec<OrchestratorCommand>) {
        let Some(store) = self.store.as_ref().filter(|s| s.node(from.node).is_some_and(|n| n.is_up(from))) else {
            return;
        };
        let due = leases::is_due(&report, from, store.leases().copied());
        let serves = report.serves;
        let before = self.lease_reports.insert(from, report);
        if before.is_none_or(|before| before.serves != serves) {
            self.want(Intent::Place, out);
            if !self.is_queued(&Intent::Place) {
                // Too much waits: the node's next report is its first, as far as this goes.
                self.lease_reports.remove(&from);
            }
        }
        if due {
            self.want(Intent::Leases { from }, out);
        }
    }

    /// All records, at once: a transaction under way tells everybody what it has changed, and who hears that must have heard
    /// all that was before. Before the store was read there is nothing to tell; then all that are linked are told.
    fn tell_all_records(&self, to: Receiver, out: &mut Vec<OrchestratorCommand>) {
        if let Some(store) = &self.store {
            let message = records(store.revision(), store.entries().map(|e| &e.record));
            out.push(OrchestratorCommand::Send { to, message });
        }
    }

    /// Queues a request; one that waits already is not queued twice.
    pub(super) fn want(&mut self, intent: Intent, out: &mut Vec<OrchestratorCommand>) {
        if self.is_queued(&intent) {
            return;
        }
        if self.queue.len() >= self.config.requests_max {
            return out.push(OrchestratorCommand::Note(Note::Overloaded));
        }
        self.queue.push_back(intent);
    }

    /// It waits, or is being decided.
    pub(super) fn is_queued(&self, intent: &Intent) -> bool {
        self.queue.contains(intent) || self.under_way.as_ref().is_some_and(|u| u.intents.contains(intent))
    }

    /// Makes the next transaction of all that waits.
    fn transact(&mut self, now: Micros, out: &mut Vec<OrchestratorCommand>) {
        if self.under_way.is_some() || self.queue.is_empty() {
            return;
        }
        let Some(store) = &self.store else { return };
        let mut intents: Vec<Intent> = self.queue.drain(..).collect();
        // The dead first: a change that rests on them must not be made in the same breath.
        // Before them what they said themselves of bad slices.
        intents.sort_by_key(|intent| match intent {
            Intent::Quarantine { .. } => 0,
            Intent::Dead { .. } | Intent::Settle => 1,
            _ => 2,
        });
        let mut draft = Draft::new(store);
        for intent in &intents {
            self.decide(now, &mut draft, intent.clone());
        }
        let (txn, effects) = draft.finish();
        let Some(txn) = txn else { return self.carry_out(effects, out) };
        self.last_txn += 1;
        let id = self.last_txn;
        out.push(OrchestratorCommand::Txn { id, txn: txn.clone() });
        self.under_way = Some(UnderWay { id, txn, intents, effects, sent_at: now });
    }

    fn txn_done(
        &mut self,
        now: Micros,
        id: u64,
        result: Result<Changes, TxnFailure>,
        out: &mut Vec<OrchestratorCommand>,
    ) {
        let Some(under_way) = self.under_way.take_if(|u| u.id == id) else { return };
        match result {
            Ok(changes) => self.committed(now, &changes, under_way.effects, out),
            Err(TxnFailure::Conflict { now: image }) => {
                // Decide anew on what is there, and tell everybody: it may have come from a transaction of our own whose
                // outcome was not known.
                self.store = Some(*image);
                self.watch(now);
                TELL_ALL.into_iter().for_each(|to| self.tell_all_records(to, out));
                for intent in under_way.intents.into_iter().rev() {
                    self.queue.push_front(intent);
                }
            }
            Err(TxnFailure::Unavailable { cause }) => {
                out.push(OrchestratorCommand::Note(Note::StoreUnavailable { cause }));
                self.under_way = Some(UnderWay { sent_at: now, ..under_way });
            }
        }
    }

    /// The transaction is durable: everybody hears of it.
    fn committed(&mut self, now: Micros, changes: &Changes, effects: Vec<Effect>, out: &mut Vec<OrchestratorCommand>) {
        if let Some(store) = &mut self.store {
            store.follow(changes);
        }
        self.watch(now);
        let message = records(changes.revision, changes.put.iter());
        for to in TELL_ALL {
            out.push(OrchestratorCommand::Send { to, message: message.clone() });
        }
        self.carry_out(effects, out);
    }

    fn carry_out(&self, effects: Vec<Effect>, out: &mut Vec<OrchestratorCommand>) {
        for effect in effects {
            match effect {
                Effect::Send(to, message) => out.push(OrchestratorCommand::Send { to, message }),
                Effect::Note(note) => out.push(OrchestratorCommand::Note(note)),
                Effect::SendAll(to) => self.tell_all_records(to, out),
            }
        }
    }

    fn repeat_txn(&mut self, now: Micros, out: &mut Vec<OrchestratorCommand>) {
        let resend_us = self.config.txn_resend_us;
        if let Some(u) = &mut self.under_way
            && now.saturating_sub(u.sent_at) >= resend_us
        {
            u.sent_at = now;
            out.push(OrchestratorCommand::Txn { id: u.id, txn: u.txn.clone() });
        }
    }

    fn decide(&self, now: Micros, draft: &mut Draft<'_>, intent: Intent) {
        let (config, reports) = (&self.config, &self.lease_reports);
        match intent {
            Intent::Settle => settle(config, draft),
            Intent::Join { link, node, request } => membership::join(config, reports, draft, link, node, request),
            Intent::Cas { from, attempt, to } => change::cas(draft, from, attempt, to),
            Intent::Read { from, attempt, group } => change::read(draft, from, attempt, group),
            Intent::Move { from, attempt, group, epoch, slices } => {
                moves::begin(config, draft, from, (attempt, group, epoch), slices);
            }
            Intent::Moved { from, to } => moves::settled(draft, from, to),
            Intent::GuestDown { from, crash, referenced, suspects } => {
                quarantine::crashed(config, (&self.quarantine_times, now), draft, from, (crash, referenced), &suspects);
                change::guest_down(draft, from);
            }
            Intent::Quarantine { from, suspect, cause } => quarantine::given_up(config, draft, from, suspect, cause),
            Intent::Forget { slice } => quarantine::forget(draft, slice),
            Intent::Dead { member } => membership::dead(config, reports, draft, member),
            Intent::Lost { group, epoch } => orphans::give_up(reports, draft, group, epoch),
            Intent::Leases { from } => leases::reported(config, reports, draft, from),
            Intent::Place => placement::spread_buckets(reports, draft),
        }
    }

    /// Watches the nodes that are Up, and nobody else.
    fn watch(&mut self, now: Micros) {
        let Some(store) = &self.store else { return };
        for node in store.nodes() {
            match node.state {
                NodeState::Up => self.suspicion.watch(now, node.member),
                NodeState::Dead => self.suspicion.forget(node.member.node),
            }
        }
        self.orphans.watch(now, store);
        self.quarantine_times.watch(now, store);
        self.lease_reports.retain(|m, _| store.node(m.node).is_some_and(|n| n.is_up(*m)));
        self.condemned.retain(|m| store.node(m.node).is_some_and(|n| n.is_up(*m)));
    }
}

/// A new orchestrator goes on from the records: makes the cluster record if the store is empty, and hands over what an
/// interrupted T5 has left (it is one transaction here; a store with smaller ones may stop in between).
fn settle(config: &OrchestratorConfig, draft: &mut Draft<'_>) {
    if draft.get(crate::store::Key::Cluster).is_none() {
        draft.put(Record::Cluster(ClusterRecord {
            cluster: config.new_cluster,
            format: ClusterRecord::FORMAT,
            next_group: 0,
            placement_seed: config.new_placement_seed,
            digest: None,
        }));
    }
    orphans::settle_orphans(config, draft, None);
}

fn records<'a>(revision: escape_proto::Revision, all: impl Iterator<Item = &'a Record>) -> FromOrchestrator {
    let (mut nodes, mut groups, mut leases, mut buckets) = (Vec::new(), Vec::new(), Vec::new(), None);
    let (mut quarantine, mut moves) = (Vec::new(), Vec::new());
    for record in all {
        match record {
            Record::Node(r) => nodes.push(r.clone()),
            Record::Group(r) => groups.push(*r),
            Record::Lease(r) => leases.push(*r),
            Record::Buckets(r) => buckets = Some(r.clone()),
            Record::Quarantine(r) => quarantine.push(r.clone()),
            Record::Move(r) => moves.push(r.clone()),
            Record::Cluster(_) => {}
        }
    }
    FromOrchestrator::Records { revision, nodes, groups, leases, quarantine, moves, buckets }
}
