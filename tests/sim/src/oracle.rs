//! The judge: it sees everything at once and checks the invariants after each step (PROTOCOL.md, I1–I9).

use crate::control::CLAIM_US;
use crate::network::Endpoint;
use crate::node_process::NodeProcess;
use crate::service::Session;
use crate::vmm::Vmm;
use crate::world::World;
use escape_engine::edge::GroupSteering;
use escape_engine::node::PlugSlice;
use escape_engine::store::{Changes, Key, Record, StoreState};
use escape_proto::{Epoch, Flow, GroupId, GroupRecord, LeaseState, Member, Mode, NodeState, SliceId};
use std::collections::BTreeMap;

/// A promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant or rule.
    pub invariant: &'static str,
    /// What happened.
    pub detail: String,
}

/// Records of the groups that a transaction changes, as they were before it.
pub type GroupsBefore = BTreeMap<GroupId, GroupRecord>;

/// The truth about a slice.
#[derive(Clone, Debug)]
struct Truth {
    group: GroupId,
    flow: Flow,
    /// Released output, by request.
    released: BTreeMap<u64, Session>,
    closed: bool,
    /// Its last state, once a standby has made a tombstone of it: the end is where the record says, whatever becomes of the group.
    entombed: Option<Session>,
    lost: bool,
    /// Its client does not wait any longer.
    abandoned: bool,
    /// The VMM of its owner, or the store, has given it up.
    given_up: bool,
}

impl Truth {
    /// A client knows of it, and it has not ended. What was given up may be anywhere as a copy that was on its way: nobody
    /// plugs it, and the slot's next slice drives it out.
    fn is_open(&self) -> bool {
        !self.released.is_empty() && !self.closed && !self.lost && !self.given_up
    }
}

/// What the judge remembers.
#[derive(Debug, Default)]
pub struct Oracle {
    /// The first broken promise.
    pub violation: Option<Violation>,
    slices: BTreeMap<SliceId, Truth>,
    /// VMMs of ended processes, as they were.
    graves: BTreeMap<Member, Vmm>,
    /// Every record that there ever was.
    records: BTreeMap<(GroupId, Epoch), GroupRecord>,
    /// Groups lost in the store.
    pub lost_groups: u64,
    /// Groups that a node brought back when it joined anew.
    pub claims: u64,
    /// Slices moved.
    pub moved: u64,
    /// Leases given once more.
    pub leases_again: u64,
    /// Slices given up in the store.
    pub quarantined: u64,
    /// Requests that killed a guest.
    pub poisonings: u64,
    /// When lives were declared dead.
    died_at: BTreeMap<Member, u64>,
    /// Nodes declared dead and groups lost.
    pub failovers: u64,
    /// Frames released.
    pub releases: u64,
    /// Activations that had slices.
    pub activations: u64,
}

impl Oracle {
    /// A promise was broken; the first one counts.
    pub fn violate(&mut self, invariant: &'static str, detail: String) {
        self.violation.get_or_insert(Violation { invariant, detail });
    }

    /// A slice begins.
    pub fn created(&mut self, slice: SliceId, group: GroupId, flow: Flow) {
        let truth = Truth {
            group,
            flow,
            released: BTreeMap::new(),
            closed: false,
            entombed: None,
            lost: false,
            abandoned: false,
            given_up: false,
        };
        if self.slices.insert(slice, truth).is_some() {
            self.violate("I9", format!("slice {slice} was made twice"));
        }
    }

    /// A slice's CLOSE is committed.
    pub fn closed(&mut self, slice: SliceId) {
        if let Some(t) = self.slices.get_mut(&slice) {
            t.closed = true;
        }
    }

    /// A standby has the slice's CLOSE.
    pub fn entombed(&mut self, slice: SliceId, state: Session) {
        if let Some(t) = self.slices.get_mut(&slice) {
            t.entombed = Some(state);
        }
    }

    /// The slice's group is lost.
    pub fn is_lost(&self, slice: SliceId) -> bool {
        self.slices.get(&slice).is_some_and(|t| t.lost)
    }

    /// Its client does not wait any longer.
    pub fn give_up(&mut self, slice: SliceId) {
        if let Some(t) = self.slices.get_mut(&slice) {
            t.abandoned = true;
        }
    }

    /// Its owner has given it up.
    pub fn give_slice_up(&mut self, slice: SliceId) {
        if let Some(t) = self.slices.get_mut(&slice) {
            t.given_up = true;
        }
    }

    /// The slice was given up.
    pub fn is_given_up(&self, slice: SliceId) -> bool {
        self.slices.get(&slice).is_some_and(|t| t.given_up)
    }

    /// A join was refused (no run makes a legal cause for it, but for a store that forgets).
    pub fn note_refused(&mut self, cause: String) {
        self.violate("T1", format!("a join was refused: {cause}"));
    }

    /// The memory of a process that has ended.
    pub fn bury(&mut self, member: Member, vmm: Vmm) {
        self.graves.insert(member, vmm);
    }

    /// A transaction is in the store (I2, I4).
    pub fn judge_store(&mut self, before: &GroupsBefore, after: &StoreState, changes: &Changes) {
        for record in &changes.put {
            if let Record::Quarantine(r) = record
                && r.given_up
            {
                self.give_slice_up(r.slice);
                self.quarantined += 1;
            }
            if let Record::Move(r) = record {
                let of_move = self.slices.iter_mut().filter(|(s, t)| r.slices.contains(s) && t.group == r.from);
                of_move.for_each(|(_, t)| t.group = r.to);
            }
            let Record::Group(new) = record else { continue };
            let detail = |what: &str| format!("group {}: {what}: {new:?}", new.group);
            let old = before.get(&new.group).copied();
            let least = old.map_or(1, |o| o.epoch.0 + 1);
            if new.epoch.0 < least {
                self.violate("I2", detail(&format!("epoch {least} at least was due")));
            }
            if (new.mode == Mode::Paired) != new.standby.is_some()
                || new.standby.is_some_and(|s| s.node == new.owner.node)
            {
                self.violate("I2", detail("no such pair"));
            }
            if let Some(known) = self.records.insert((new.group, new.epoch), *new)
                && known != *new
            {
                self.violate("I2", detail("this epoch was another record before"));
            }
            let up = |m: Member| after.node(m.node).is_some_and(|n| n.is_up(m));
            // One transaction may hand a group on and then lose it: the last owner counts.
            let heir = |o: &GroupRecord| o.standby.is_some_and(|s| o.owner == new.owner && up(s));
            if let Some(old) = old.filter(|o| new.mode == Mode::Lost && (up(new.owner) || heir(o))) {
                self.violate("I5", detail(&format!("lost, although a copy lives: {old:?}")));
            }
            if new.mode == Mode::Lost {
                self.lost_groups += 1;
                self.slices.values_mut().filter(|t| t.group == new.group).for_each(|t| t.lost = true);
            }
        }
    }
}

impl World {
    /// The member that a process is.
    pub fn member_of(&self, end: Endpoint) -> Option<Member> {
        match end {
            Endpoint::Node(n) => self.nodes[n].process.as_ref().and_then(|p| p.engine.me()),
            _ => None,
        }
    }

    /// The memory of a life of a node, be it over or not.
    fn memory_of(&self, member: Member) -> Option<&Vmm> {
        let living = self.nodes[usize::from(member.node.0)].process.as_ref();
        living.filter(|p| p.engine.me() == Some(member)).map(|p| &p.vmm).or_else(|| self.oracle.graves.get(&member))
    }

    /// A group is lost only once neither life that its record names can still bring its copy, or both have had their
    /// time to (I5).
    pub fn judge_lost(&mut self, before: &GroupsBefore, changes: &Changes) {
        let (now, after) = (self.now, &self.store.state);
        let mut found = Vec::new();
        for record in &changes.put {
            let new = match record {
                Record::Node(r) if r.state == NodeState::Dead => {
                    self.oracle.died_at.insert(r.member, now);
                    continue;
                }
                Record::Group(r) if r.mode == Mode::Lost => r,
                _ => continue,
            };
            // Two steps in one transaction: its owner had asked to go on alone (Solo) before it was lost.
            let in_one_step = |o: &GroupRecord| o.owner == new.owner && new.epoch.0 == o.epoch.0 + 1;
            let old = before.get(&new.group).copied().filter(in_one_step);
            let named = [Some(new.owner), old.and_then(|o| o.standby)];
            let died = named.iter().flatten().filter_map(|m| self.oracle.died_at.get(m)).max();
            for member in named.into_iter().flatten() {
                let latest = after.node(member.node).is_some_and(|n| n.member == member);
                let process = self.nodes[usize::from(member.node.0)].process.as_ref();
                let remembers = process.is_some_and(|p| p.engine.me().or(p.former) == Some(member));
                // For a clock that has jumped the time may be over.
                let jumped = |at: u64| self.clocks.orchestrator_jumped_at.is_some_and(|jump| jump >= at);
                if latest && remembers && died.is_none_or(|&at| now < at + CLAIM_US && !jumped(at)) {
                    found.push(format!("group {} is lost, although {member} remembers it: {old:?}", new.group));
                }
            }
        }
        if let Some(detail) = found.into_iter().next() {
            self.oracle.violate("I5", detail);
        }
    }

    /// A lease is Free only if no node of the cell has a live slice in it (T10).
    pub fn judge_freed(&mut self, changes: &Changes) {
        for record in &changes.put {
            let Record::Lease(lease) = record else { continue };
            let slots = lease.lease.0 * 64..lease.lease.0 * 64 + 64;
            self.oracle.leases_again += u64::from(lease.generation > 1 && lease.state == LeaseState::Active);
            let live = self.live_slices().find(|(_, s)| slots.contains(&s.slot));
            if let Some((n, slice)) = live.filter(|_| lease.state == LeaseState::Free) {
                let detail = format!("lease {} is free, although node {n} has slice {slice}", lease.lease);
                return self.oracle.violate("T10", detail);
            }
        }
    }

    /// A slot has one live slice: two could not be plugged into one guest. (What a node begins that does not know yet that
    /// it is dead can never leave it.)
    pub fn judge_slot(&mut self, n: usize, slice: SliceId) {
        let me = self.member_of(Endpoint::Node(n));
        if me.is_none_or(|m| !self.store.state.node(m.node).is_some_and(|r| r.is_up(m))) {
            return;
        }
        let other = self.live_slices().find(|(_, s)| s.slot == slice.slot && *s != slice);
        if let Some((at, other)) = other {
            self.oracle.violate("T10", format!("node {n} begins slice {slice}, node {at} has slice {other}"));
        }
    }

    /// Slices that clients know, and a node of the cell that has a copy.
    fn live_slices(&self) -> impl Iterator<Item = (usize, SliceId)> {
        let up =
            |p: &&NodeProcess| p.engine.me().is_some_and(|m| self.store.state.node(m.node).is_some_and(|r| r.is_up(m)));
        let processes =
            self.nodes.iter().enumerate().filter_map(move |(n, place)| Some((n, place.process.as_ref().filter(up)?)));
        let copies = processes.flat_map(|(n, p)| p.vmm.own.keys().chain(p.vmm.standby.keys()).map(move |s| (n, *s)));
        copies.filter(|(_, slice)| self.oracle.slices.get(slice).is_some_and(Truth::is_open))
    }

    /// Is the node the owner that the store names, and does it know the newest record?
    fn is_true_owner(&self, n: usize, group: GroupId) -> bool {
        let record = self.store.state.group(group);
        let me = self.member_of(Endpoint::Node(n));
        let known = self.nodes[n].process.as_ref().and_then(|p| p.engine.record(group));
        record.is_some_and(|r| Some(r.owner) == me && r.mode != Mode::Lost) && record == known
    }

    /// A frame leaves the valve: its state must be where the record says that it is safe (I1), and no other output of
    /// that request may ever have left (I2).
    pub fn judge_release(&mut self, n: usize, slice: SliceId, state: Session) {
        self.oracle.releases += 1;
        let Some(truth) = self.oracle.slices.get_mut(&slice) else { return };
        let (group, flow) = (truth.group, truth.flow);
        let ended = ((truth.closed || truth.given_up) && truth.released.contains_key(&state.count))
            || truth.entombed.is_some_and(|end| end == state);
        let first = *truth.released.entry(state.count).or_insert(state);
        if first != state {
            let detail = format!("node {n}, slice {slice}: reply {} left with two contents", state.count);
            return self.oracle.violate("I2", detail);
        }
        if ended {
            // A late word of a deposed owner about a slice that has ended since: nobody need know it any more.
            return;
        }
        let Some(record) = self.store.state.group(group).copied() else { return };
        let keeper = if Some(record.owner) == self.member_of(Endpoint::Node(n)) {
            record.standby
        } else {
            (record.mode != Mode::Lost).then_some(record.owner)
        };
        let Some(memory) = keeper.and_then(|k| self.memory_of(k)) else { return };
        let known = memory.knows(slice).map(|s| s.count);
        let running = memory.guest.get(&slice).map(|r| r.state.count);
        let safe = known.max(running).is_some_and(|count| count >= state.count) || memory.tombs.contains_key(&flow);
        if !safe {
            let detail =
                format!("node {n}, slice {slice}: reply {} left, {keeper:?} has {known:?}: {record:?}", state.count);
            self.oracle.violate("I1", detail);
        }
    }

    /// A request comes that is further on than the slice: the owner has lost what a client was told.
    pub fn judge_gap(&mut self, n: usize, slice: SliceId, has: u64, asked: u64) {
        let truth = self.oracle.slices.get(&slice);
        let told = truth.and_then(|t| t.released.last_key_value()).map_or(0, |(count, _)| *count);
        if told > has && truth.map(|t| t.group).is_some_and(|g| self.is_true_owner(n, g)) {
            self.oracle.violate("I1", format!("node {n}, slice {slice}: is at {has}, its client asks for {asked}"));
        }
    }

    /// An owner activates: closed slices stay closed (I9), and released output is in the images (I1).
    pub fn judge_activation(&mut self, n: usize, group: GroupId, slices: &[PlugSlice]) {
        self.oracle.activations += u64::from(!slices.is_empty());
        if !self.is_true_owner(n, group) {
            return;
        }
        let Some(p) = self.nodes[n].process.as_ref() else { return };
        let mut broken = None;
        for plug in slices {
            let Some(truth) = self.oracle.slices.get(&plug.slice) else { continue };
            let image = p.vmm.own.get(&plug.slice).map(|i| i.state);
            let newest = truth.released.last_key_value().map(|(_, s)| *s);
            if self.stays_away(group, plug.slice) {
                broken = Some(("T6", format!("node {n} activates slice {}, which was given up", plug.slice)));
            }
            if truth.closed {
                broken = Some(("I9", format!("node {n} activates slice {}, which is closed", plug.slice)));
            }
            if let (Some(image), Some(newest)) = (image, newest)
                && (image.count < newest.count || (image.count == newest.count && image != newest))
            {
                let detail = format!("node {n} activates slice {} at {image:?}, released was {newest:?}", plug.slice);
                broken = Some(("I1", detail));
            }
        }
        if let Some((invariant, detail)) = broken {
            self.oracle.violate(invariant, detail);
        }
    }

    /// The store had given the slice up before the group's record became what it is: its owner knows.
    fn stays_away(&self, group: GroupId, slice: SliceId) -> bool {
        let store = &self.store.state;
        let key = Key::Quarantine(slice);
        let given_up = matches!(store.get(key), Some(Record::Quarantine(r)) if r.given_up);
        given_up && store.version(key) <= store.version(Key::Group(group))
    }

    /// A slice runs in a guest of its owner.
    pub fn judge_plug(&mut self, n: usize, group: GroupId, slice: SliceId) {
        if self.is_true_owner(n, group) && self.stays_away(group, slice) {
            self.oracle.violate("T6", format!("node {n} plugs slice {slice}, which was given up"));
        }
    }

    /// A group is open at its owner: every session that a client knows must be there (I5).
    pub fn judge_opening(&mut self, n: usize, group: GroupId) {
        if !self.is_true_owner(n, group) {
            return;
        }
        let Some(p) = self.nodes[n].process.as_ref() else { return };
        let mut missing = None;
        for (slice, truth) in
            self.oracle.slices.iter_mut().filter(|(_, t)| t.group == group && t.is_open() && !t.given_up)
        {
            if p.vmm.own.contains_key(slice) {
                continue;
            }
            // Its CLOSE was applied here; the acknowledgement was lost with the old owner.
            truth.closed = p.vmm.tombs.contains_key(&truth.flow);
            missing = missing.or((!truth.closed).then_some(*slice));
        }
        if let Some(slice) = missing {
            let detail = format!("node {n} opens group {group} without slice {slice}, which is lost");
            self.oracle.violate("I5", detail);
        }
    }

    /// The fabric turns to an owner: its gate must be closed, else one packet draws an RST (T8, finding 9).
    pub fn judge_flip(&mut self, steering: GroupSteering) {
        let n = usize::from(steering.owner.node.0);
        let Some(p) = self.nodes[n].process.as_ref().filter(|p| p.engine.me() == Some(steering.owner)) else { return };
        if self.fabric.groups.get(&steering.group).is_some_and(|s| s.owner == steering.owner) {
            return;
        }
        let current = p.engine.record(steering.group).is_none_or(|r| r.epoch <= steering.epoch);
        let gated = p.engine.gated_groups().any(|(g, _)| g == steering.group);
        if current && !gated {
            let detail = format!("group {} flips to node {n} before its gate is closed", steering.group);
            self.oracle.violate("T8", detail);
        }
    }
}
