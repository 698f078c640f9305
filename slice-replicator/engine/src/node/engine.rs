//! The node's engine: one event in, commands out.

use super::command::Command;
use super::commit::Capture;
use super::config::NodeConfig;
use super::event::Event;
use super::image::Image;
use super::moves::MovedSlices;
use super::owned_group::OwnedGroup;
use super::owned_slice::OwnedSlice;
use super::quarantine::Quarantine;
use super::slice_table::SliceTable;
use super::view::RecordsView;
use super::waiting::{Waiting, WaitingRoom};
use crate::{Micros, Mutant};
use escape_proto::{Epoch, GroupId, GroupRecord, Incarnation, Member, Mode, NodeId, SliceId, Suspect};
use std::collections::{BTreeMap, BTreeSet};

/// Owner of some groups, standby of others (T1–T8, T10, T11 as far as a node takes part in them).
///
/// Feed it every event in the order in which the node's thread saw them, and carry out the commands in order. An event
/// of the commit path (`Captured`, `Checkpoint`, `Applied`, `Acked`) costs constant time and no allocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeEngine {
    pub(super) config: NodeConfig,
    /// This life; `None` before the join and after the own death.
    pub(super) me: Option<Member>,
    pub(super) view: RecordsView,
    /// Nodes that can be reached, and in which life.
    pub(super) links: BTreeMap<NodeId, Incarnation>,
    pub(super) owned: BTreeMap<GroupId, OwnedGroup>,
    /// Slices of the owned groups.
    pub(super) ledger: SliceTable<OwnedSlice>,
    /// Slices that this node stands by for.
    pub(super) images: SliceTable<Image>,
    /// Applies under way per group.
    pub(super) applying: BTreeMap<GroupId, u32>,
    pub(super) waiting: WaitingRoom,
    pub(super) quarantine: Quarantine,
    pub(super) moved: MovedSlices,
    /// Slices whose CLOSE is committed, but whose slots hold too many that have ended to be given out again. Bounded by the
    /// cell's slots.
    pub(super) crowded: BTreeSet<SliceId>,
    pub(super) guest_up: bool,
    pub(super) guest_reported_at: Option<Micros>,
    /// No sync begins before this time.
    pub(super) calm_until: Micros,
    /// No full copy goes to a candidate before this time.
    pub(super) bulk_from: Micros,
    last_number: u64,
    last_turn: Option<Micros>,
}

/// How many slices a node has, by their protection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceTally {
    /// Owned, and their latest checkpoint is acknowledged by the group's standby.
    pub protected: u32,
    /// Owned, other.
    pub solo: u32,
    /// Images held for others.
    pub standby: u32,
}

impl NodeEngine {
    /// The engine of a node that has not joined yet.
    pub fn new(config: NodeConfig) -> Self {
        let waiting = WaitingRoom::new(config.waiting_per_group_max, config.waiting_max);
        Self {
            config,
            me: None,
            view: RecordsView::default(),
            links: BTreeMap::new(),
            owned: BTreeMap::new(),
            ledger: SliceTable::new(),
            images: SliceTable::new(),
            applying: BTreeMap::new(),
            waiting,
            quarantine: Quarantine::default(),
            moved: MovedSlices::default(),
            crowded: BTreeSet::new(),
            guest_up: false,
            guest_reported_at: None,
            calm_until: 0,
            bulk_from: 0,
            last_number: 0,
            last_turn: None,
        }
    }

    /// Takes an event at local time `now` (microseconds, never going back) and appends what is to be done to `out`.
    pub fn on(&mut self, now: Micros, event: Event, out: &mut Vec<Command>) {
        let late = self.last_turn.is_some_and(|last| now.saturating_sub(last) > self.config.pause_limit_us);
        self.last_turn = Some(now);
        if let Event::Joined { me, claimed, moves } = event {
            return self.joined(me, &claimed, &moves, out);
        }
        if self.me.is_none() {
            return self.before_join(event, out);
        }
        if late {
            self.after_pause(now, out);
        }
        match event {
            Event::BulkPaused { until } => self.bulk_from = self.bulk_from.max(until),
            Event::Captured { group, slice, kind, generation, rcv_covered, flow, chain } => {
                self.captured(now, Capture { group, slice, kind, generation, rcv_covered, flow, chain }, out);
            }
            Event::Checkpoint { from, head, body } => self.checkpoint(Waiting { from, head, body }, out),
            Event::Applied { from, head, result } => self.applied(from, head, result, out),
            Event::Acked { from, ack } => self.acked(now, from, ack, out),
            other => {
                self.rare(now, other, out);
                self.drive(now, out);
            }
        }
    }

    /// Events that are not on the commit path.
    fn rare(&mut self, now: Micros, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::Records { nodes, groups, quarantine, moves, buckets: _ } => {
                // Before the groups: what is activated must have what moved there, and nothing that was given up there.
                self.move_records(now, &moves, out);
                self.quarantine_records(now, quarantine, out);
                self.records(now, nodes, groups, out);
            }
            Event::MoveAsked { request, slices, to } => self.move_asked(now, request, slices, to, out),
            Event::Frozen { group, slice } => self.frozen(now, group, slice, out),
            Event::MoveOutcome { attempt, group, outcome } => self.move_outcome(attempt, group, outcome, out),
            Event::Outcome { attempt, group, outcome } => self.outcome(now, attempt, group, outcome, out),
            Event::PeerUp(member) => self.peer_up(now, member, out),
            Event::PeerDown(member) => self.peer_down(now, member, out),
            Event::Refused { from, refusal } => self.refused(now, from, &refusal, out),
            Event::Probe { from, group, epoch: _, nonce } => self.probed(from, group, nonce, out),
            Event::ProbeReply { from, group, epoch, nonce, standing_by } => {
                self.probe_answered(now, from, (group, epoch), nonce, standing_by, out);
            }
            Event::GateClosed { group, epoch } => self.gate_closed(now, group, epoch, out),
            Event::Flipped { group, epoch } => self.flipped(group, epoch, out),
            Event::Plugged { group, slice, ok } => self.plugged(group, slice, ok, out),
            Event::Quarantined { group, slice, cause } => self.quarantined(now, Suspect { group, slice }, cause, out),
            Event::PeerQuarantined { from, group, epoch, slice } => {
                self.peer_quarantined(from, Suspect { group, slice }, epoch, out);
            }
            Event::GuestDown { suspects } => self.guest_down(now, &suspects, out),
            Event::GuestReady => self.guest_ready(out),
            Event::Tick
            | Event::BulkPaused { .. }
            | Event::Joined { .. }
            | Event::Captured { .. }
            | Event::Checkpoint { .. }
            | Event::Applied { .. }
            | Event::Acked { .. } => {}
        }
    }

    /// A number for an attempt or a nonce; never used twice by this engine.
    pub(super) const fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The same member: node and incarnation (I3).
    pub(super) fn is_same(&self, a: Member, b: Member) -> bool {
        a == b || (self.config.broken == Some(Mutant::StandbyAmnesia) && a.node == b.node)
    }

    /// Can this life of a node be reached?
    pub(super) fn is_linked(&self, member: Member) -> bool {
        self.links.get(&member.node).is_some_and(|&inc| self.is_same(member, Member { node: member.node, inc }))
    }

    /// This life, if the node is in the cell.
    pub const fn me(&self) -> Option<Member> {
        self.me
    }

    /// The newest record of a group that this node has seen.
    pub fn record(&self, group: GroupId) -> Option<&GroupRecord> {
        self.view.group(group)
    }

    /// All newest records.
    pub fn group_records(&self) -> impl Iterator<Item = &GroupRecord> {
        self.view.groups()
    }

    /// The newest node records.
    pub fn node_records(&self) -> impl Iterator<Item = &escape_proto::NodeRecord> {
        self.view.nodes()
    }

    /// Does this node own the group now?
    pub fn owns(&self, group: GroupId) -> bool {
        self.owned.contains_key(&group)
    }

    /// The owned slices of a group and their flows (what a new edge is told).
    pub fn owned_slices(&self, group: GroupId) -> impl Iterator<Item = (SliceId, escape_proto::Flow)> {
        let members = self.owned.get(&group).map_or(&[][..], |g| g.members.as_slice());
        members.iter().filter_map(|s| self.ledger.get(*s).map(|e| (*s, e.flow)))
    }

    /// Owned groups whose gate was closed before their input came here, with the present epoch: what is repeated to an
    /// edge whose link is new.
    pub fn gated_groups(&self) -> impl Iterator<Item = (GroupId, Epoch)> {
        self.owned.iter().filter(|(_, g)| g.is_gated()).map(|(id, g)| (*id, g.record.epoch))
    }

    /// Does it keep an image of this slice?
    pub fn keeps_image(&self, slice: SliceId) -> bool {
        self.images.get(slice).is_some_and(|image| !image.closed)
    }

    /// Slices by protection. Looks at each: for figures, not for the commit path.
    pub fn tally(&self) -> SliceTally {
        let images = self.images.iter().filter(|(_, image)| !image.closed).count();
        let none = SliceTally { standby: clamp(images), ..SliceTally::default() };
        self.group_tallies().values().fold(none, |sum, group| SliceTally {
            protected: sum.protected + group.protected,
            solo: sum.solo + group.solo,
            ..sum
        })
    }

    /// An owned slice's place in the ledger, in words: for people who look for a fault.
    pub fn slice_report(&self, slice: SliceId) -> Option<String> {
        self.ledger.get(slice).map(|entry| format!("{entry:?}"))
    }

    /// Owned slices by group and protection; likewise for figures.
    pub fn group_tallies(&self) -> BTreeMap<GroupId, SliceTally> {
        let mut tallies: BTreeMap<GroupId, SliceTally> = BTreeMap::new();
        for (_, e) in self.ledger.iter() {
            let paired = self.owned.get(&e.group).is_some_and(|g| g.record.mode == Mode::Paired);
            let tally = tallies.entry(e.group).or_default();
            match paired && e.standby.acked >= e.last.0 {
                true => tally.protected += 1,
                false => tally.solo += 1,
            }
        }
        tallies
    }
}

fn clamp(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
