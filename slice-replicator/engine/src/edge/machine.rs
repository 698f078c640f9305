//! The edge's machine: which steering may be applied, and who is told.

use super::command::{EdgeCommand, GroupSteering};
use super::config::EdgeConfig;
use super::event::EdgeEvent;
use crate::{Micros, Mutant};
use escape_proto::{EdgeReply, EdgeRequest, Epoch, Flow, FlowEntry, GroupId, GroupRecord, Member, Mode, MoveRecord};
use std::collections::BTreeMap;

/// Steers a group to its owner once record and gate agree (T8); tells owners when it is done.
///
/// Keeps nothing: after a restart the records come from the orchestrator, gates and flows from the owners. Safety never
/// depends on it; availability does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeMachine {
    config: EdgeConfig,
    groups: BTreeMap<GroupId, Steered>,
    /// Flow → its group. Full: further flows are refused and counted; they follow their bucket.
    flows: BTreeMap<Flow, GroupId>,
    flows_refused: u64,
    /// Version of the placement that the fabric has.
    placed: Option<u64>,
}

/// A move's slices, each with the connections of one client.
const EARLY_MAX: usize = MoveRecord::SLICES_MAX;

/// What the edge knows of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Steered {
    record: Option<GroupRecord>,
    /// The highest gate statement: who, at which epoch.
    gate: Option<(Member, Epoch)>,
    /// What the fabric does.
    applied: Option<GroupSteering>,
    /// What the fabric has been told and not confirmed.
    under_way: Option<GroupSteering>,
    /// The gate's owner waits for an answer.
    asked: bool,
    /// Flows that a node says are this group's, before the group was steered for the first time: bound together with that, if it
    /// is the owner. At most [`EARLY_MAX`]; further ones follow when their owner tells all of its flows again.
    early: Vec<(Member, Flow)>,
}

impl EdgeMachine {
    /// An edge that knows nothing yet.
    pub const fn new(config: EdgeConfig) -> Self {
        Self { config, groups: BTreeMap::new(), flows: BTreeMap::new(), flows_refused: 0, placed: None }
    }

    /// Takes an event and appends what is to be done to `out`. Time is not looked at: nothing here depends on it.
    pub fn on(&mut self, _now: Micros, event: EdgeEvent, out: &mut Vec<EdgeCommand>) {
        match event {
            EdgeEvent::Records { nodes: _, groups, buckets } => {
                if let Some(buckets) = buckets
                    && self.placed.is_none_or(|placed| placed < buckets.version)
                {
                    self.placed = Some(buckets.version);
                    out.push(EdgeCommand::Place { buckets });
                }
                for record in groups {
                    self.record(record, out);
                }
            }
            EdgeEvent::Request { from, request } => self.request(from, request, out),
            EdgeEvent::Steered { groups } => self.steered(&groups, out),
            EdgeEvent::SteerFailed { groups } => {
                for failed in groups {
                    if let Some(g) = self.groups.get_mut(&failed.group) {
                        g.under_way = None;
                    }
                }
                // Again at the next tick, not at once: a fabric that fails may need a moment.
                return;
            }
            EdgeEvent::Tick => {}
        }
        self.steer(out);
    }

    /// What the fabric does for a group, as far as it has confirmed.
    pub fn applied(&self, group: GroupId) -> Option<GroupSteering> {
        self.groups.get(&group).and_then(|g| g.applied)
    }

    /// Flows bound one by one.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Flows refused because the table was full, since the start.
    pub const fn flows_refused(&self) -> u64 {
        self.flows_refused
    }

    fn record(&mut self, record: GroupRecord, out: &mut Vec<EdgeCommand>) {
        let g = self.groups.entry(record.group).or_default();
        if g.record.is_some_and(|known| known.epoch >= record.epoch) {
            return;
        }
        g.record = Some(record);
        if record.mode == Mode::Lost {
            let flows: Vec<Flow> = self.flows.iter().filter(|(_, g)| **g == record.group).map(|(f, _)| *f).collect();
            self.unbind(flows, out);
        }
    }

    fn request(&mut self, from: Member, request: EdgeRequest, out: &mut Vec<EdgeCommand>) {
        match request {
            EdgeRequest::GateClosed { groups } => {
                let mut flipped = Vec::new();
                for (group, epoch) in groups {
                    self.gate_closed(from, group, epoch, &mut flipped, out);
                }
                if !flipped.is_empty() {
                    out.push(EdgeCommand::Reply { to: from, reply: EdgeReply::Flipped { groups: flipped } });
                }
            }
            EdgeRequest::Flows(entries) => self.bind(from, entries, out),
            EdgeRequest::Closed(flows) => {
                let owned = |f: &Flow| self.flows.get(f).is_some_and(|g| self.owner(*g) == Some(from));
                let flows: Vec<Flow> = flows.into_iter().filter(owned).collect();
                self.unbind(flows, out);
            }
        }
    }

    fn gate_closed(
        &mut self,
        from: Member,
        group: GroupId,
        epoch: Epoch,
        flipped: &mut Vec<(GroupId, Epoch)>,
        out: &mut Vec<EdgeCommand>,
    ) {
        // A group that no record names yet is remembered only for a member that will own it: bounded by the records.
        if !self.groups.contains_key(&group) && self.groups.len() >= Self::GROUPS_MAX {
            return;
        }
        let g = self.groups.entry(group).or_default();
        if let Some(applied) = g.applied.filter(|a| a.epoch >= epoch) {
            if applied.owner == from {
                flipped.push((group, epoch));
            } else {
                let reply = EdgeReply::Stale { group, applied: applied.epoch, owner: applied.owner.node };
                out.push(EdgeCommand::Reply { to: from, reply });
            }
            return;
        }
        let newer = g.gate.is_none_or(|(_, known)| epoch >= known);
        let possible = g.record.is_none_or(|r| r.epoch < epoch || (r.epoch == epoch && r.owner == from));
        if newer && possible {
            g.gate = Some((from, epoch));
            g.asked = true;
        }
    }

    /// Groups that the edge keeps state for, at most: far more than a cell makes; a bound against a hostile node.
    const GROUPS_MAX: usize = 1 << 20;

    fn bind(&mut self, from: Member, entries: Vec<FlowEntry>, out: &mut Vec<EdgeCommand>) {
        let mut per_group: BTreeMap<GroupId, Vec<Flow>> = BTreeMap::new();
        for FlowEntry { flow, group } in entries {
            if self.comes_early(from, flow, group) || self.owner(group) != Some(from) || self.has_left(flow, group) {
                continue;
            }
            if self.flows.len() >= self.config.flows_max && !self.flows.contains_key(&flow) {
                self.flows_refused += 1;
                continue;
            }
            self.flows.insert(flow, group);
            per_group.entry(group).or_default().push(flow);
        }
        out.extend(per_group.into_iter().map(|(group, flows)| EdgeCommand::Bind { group, flows }));
    }

    /// The group was not steered yet: its flows are bound when it is.
    fn comes_early(&mut self, from: Member, flow: Flow, group: GroupId) -> bool {
        if !self.groups.contains_key(&group) && self.groups.len() >= Self::GROUPS_MAX {
            return false;
        }
        let g = self.groups.entry(group).or_default();
        if g.applied.is_some() || g.early.len() >= EARLY_MAX {
            return false;
        }
        if !g.early.contains(&(from, flow)) {
            g.early.push((from, flow));
        }
        true
    }

    /// The flow's slice has moved to a newer group (T9), and who says otherwise has not heard of it.
    fn has_left(&self, flow: Flow, group: GroupId) -> bool {
        self.flows.get(&flow).is_some_and(|known| *known > group && self.owner(*known).is_some())
    }

    fn unbind(&mut self, flows: Vec<Flow>, out: &mut Vec<EdgeCommand>) {
        for flow in &flows {
            self.flows.remove(flow);
        }
        if !flows.is_empty() {
            out.push(EdgeCommand::Unbind { flows });
        }
    }

    fn owner(&self, group: GroupId) -> Option<Member> {
        let record = self.groups.get(&group)?.record?;
        (record.mode != Mode::Lost).then_some(record.owner)
    }

    /// All steering that is due, in one fabric transaction.
    fn steer(&mut self, out: &mut Vec<EdgeCommand>) {
        let (mut due, mut flows) = (Vec::new(), Vec::new());
        for g in self.groups.values_mut() {
            if let Some(steering) = g.due(self.config.broken) {
                g.under_way = Some(steering);
                due.push(steering);
                let own = g.early.iter().filter(|(from, _)| *from == steering.owner);
                flows.extend(own.map(|(_, flow)| FlowEntry { flow: *flow, group: steering.group }));
            }
        }
        if !due.is_empty() {
            out.push(EdgeCommand::Steer { groups: due, flows });
        }
    }

    /// The fabric did it: whoever waits for it is told.
    fn steered(&mut self, groups: &[GroupSteering], out: &mut Vec<EdgeCommand>) {
        let mut told: BTreeMap<Member, Vec<(GroupId, Epoch)>> = BTreeMap::new();
        for done in groups {
            let Some(g) = self.groups.get_mut(&done.group) else { continue };
            g.under_way = None;
            let bound = std::mem::take(&mut g.early).into_iter().filter(|(from, _)| *from == done.owner);
            for (_, flow) in bound {
                if self.flows.len() < self.config.flows_max || self.flows.contains_key(&flow) {
                    self.flows.insert(flow, done.group);
                }
            }
            if g.applied.is_none_or(|a| a.epoch < done.epoch) {
                g.applied = Some(*done);
            }
            if let Some((who, epoch)) = g.gate
                && g.asked
                && done.owner == who
                && done.epoch >= epoch
            {
                g.asked = false;
                told.entry(who).or_default().push((done.group, epoch));
            }
        }
        let replies = told.into_iter();
        out.extend(replies.map(|(to, groups)| EdgeCommand::Reply { to, reply: EdgeReply::Flipped { groups } }));
    }
}

impl Steered {
    /// What the fabric is to be told now: the record's steering, if it is newer than what is applied and either the new
    /// owner's gate is closed at that very epoch or the owner stays the same (a new standby: only the mirror moves).
    fn due(&self, broken: Option<Mutant>) -> Option<GroupSteering> {
        let r = self.record.filter(|r| r.mode != Mode::Lost && self.under_way.is_none())?;
        if self.applied.is_some_and(|a| a.epoch >= r.epoch) {
            return None;
        }
        let same_owner = self.applied.is_some_and(|a| a.owner == r.owner);
        let gated = self.gate == Some((r.owner, r.epoch)) || broken == Some(Mutant::FlipBeforeGate);
        let mirror = r.standby.filter(|_| broken != Some(Mutant::NoMirror));
        (same_owner || gated).then_some(GroupSteering { group: r.group, epoch: r.epoch, owner: r.owner, mirror })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_proto::{Incarnation, NodeId};

    const G: GroupId = GroupId(4);
    const A: Member = Member { node: NodeId(1), inc: Incarnation(1) };
    const B: Member = Member { node: NodeId(2), inc: Incarnation(3) };

    fn edge() -> EdgeMachine {
        EdgeMachine::new(EdgeConfig::default())
    }

    fn on(edge: &mut EdgeMachine, event: EdgeEvent) -> Vec<EdgeCommand> {
        let mut out = Vec::new();
        edge.on(0, event, &mut out);
        out
    }

    fn record(edge: &mut EdgeMachine, record: GroupRecord) -> Vec<EdgeCommand> {
        on(edge, EdgeEvent::Records { nodes: vec![], groups: vec![record], buckets: None })
    }

    fn gate(edge: &mut EdgeMachine, from: Member, epoch: u64) -> Vec<EdgeCommand> {
        let request = EdgeRequest::GateClosed { groups: vec![(G, Epoch(epoch))] };
        on(edge, EdgeEvent::Request { from, request })
    }

    const fn steering(epoch: u64, owner: Member, mirror: Option<Member>) -> GroupSteering {
        GroupSteering { group: G, epoch: Epoch(epoch), owner, mirror }
    }

    fn flipped(to: Member, epoch: u64) -> EdgeCommand {
        EdgeCommand::Reply { to, reply: EdgeReply::Flipped { groups: vec![(G, Epoch(epoch))] } }
    }

    /// Edge that steers the group to A at epoch 2, mirrored to B.
    fn steered_to_a() -> EdgeMachine {
        let mut e = edge();
        let paired = GroupRecord::fresh(G, A).paired_with(B);
        assert_eq!(record(&mut e, paired), []);
        let s = steering(2, A, Some(B));
        assert_eq!(gate(&mut e, A, 2), [EdgeCommand::Steer { groups: vec![s], flows: vec![] }]);
        assert_eq!(on(&mut e, EdgeEvent::Steered { groups: vec![s] }), [flipped(A, 2)]);
        e
    }

    #[test]
    fn flips_when_record_and_gate_agree_in_either_order() {
        let handed = GroupRecord::fresh(G, A).paired_with(B).handed_to(B);
        let s = steering(3, B, None);
        let mut e = steered_to_a();
        assert_eq!(record(&mut e, handed), []);
        assert_eq!(gate(&mut e, B, 3), [EdgeCommand::Steer { groups: vec![s], flows: vec![] }]);
        assert_eq!(on(&mut e, EdgeEvent::Steered { groups: vec![s] }), [flipped(B, 3)]);

        let mut e = steered_to_a();
        assert_eq!(gate(&mut e, B, 3), []);
        assert_eq!(record(&mut e, handed), [EdgeCommand::Steer { groups: vec![s], flows: vec![] }]);
    }

    #[test]
    fn a_gate_of_another_epoch_or_node_does_not_count() {
        let mut e = steered_to_a();
        record(&mut e, GroupRecord::fresh(G, A).paired_with(B).handed_to(B));
        assert_eq!(gate(&mut e, A, 3), []);
        assert_eq!(gate(&mut e, B, 4), []);
        assert_eq!(e.applied(G), Some(steering(2, A, Some(B))));
    }

    #[test]
    fn the_old_owner_is_told_that_it_is_stale_and_a_repetition_is_answered() {
        let mut e = steered_to_a();
        assert_eq!(gate(&mut e, A, 2), [flipped(A, 2)]);
        let stale = EdgeReply::Stale { group: G, applied: Epoch(2), owner: A.node };
        assert_eq!(gate(&mut e, B, 1), [EdgeCommand::Reply { to: B, reply: stale }]);
    }

    #[test]
    fn a_new_standby_moves_the_mirror_without_a_gate() {
        let mut e = steered_to_a();
        let s = steering(3, A, None);
        let solo = GroupRecord::fresh(G, A).paired_with(B).solo();
        assert_eq!(record(&mut e, solo), [EdgeCommand::Steer { groups: vec![s], flows: vec![] }]);
    }

    #[test]
    fn what_the_fabric_failed_to_do_is_tried_again_at_the_next_tick() {
        let mut e = edge();
        record(&mut e, GroupRecord::fresh(G, A));
        let steer = gate(&mut e, A, 1);
        let groups = vec![steering(1, A, None)];
        assert_eq!(steer, [EdgeCommand::Steer { groups: groups.clone(), flows: vec![] }]);
        assert_eq!(on(&mut e, EdgeEvent::Tick), []);
        assert_eq!(on(&mut e, EdgeEvent::SteerFailed { groups }), []);
        assert_eq!(on(&mut e, EdgeEvent::Tick), steer);
    }

    /// T9: the flow goes with the first steering of its new group, and nobody's late word brings it back.
    #[test]
    fn a_moved_flow_is_bound_with_the_steering_of_its_new_group() {
        const H: GroupId = GroupId(9);
        let flow = Flow { ip: [10, 0, 0, 1], port: 4_000, service_port: 80 };
        let says =
            |from, group| EdgeEvent::Request { from, request: EdgeRequest::Flows(vec![FlowEntry { flow, group }]) };
        let mut e = steered_to_a();
        assert_eq!(on(&mut e, says(A, G)), [EdgeCommand::Bind { group: G, flows: vec![flow] }]);
        assert_eq!(on(&mut e, says(B, H)), [], "before its record");
        assert_eq!(on(&mut e, says(A, H)), [], "by somebody who does not own it");
        let request = EdgeRequest::GateClosed { groups: vec![(H, Epoch(1))] };
        assert_eq!(on(&mut e, EdgeEvent::Request { from: B, request }), []);
        let s = GroupSteering { group: H, epoch: Epoch(1), owner: B, mirror: Some(A) };
        let flows = vec![FlowEntry { flow, group: H }];
        assert_eq!(record(&mut e, GroupRecord::of_move(H, B, A)), [EdgeCommand::Steer { groups: vec![s], flows }]);
        on(&mut e, EdgeEvent::Steered { groups: vec![s] });
        assert_eq!(on(&mut e, says(A, G)), [], "a late word");
        assert_eq!(e.flows(), 1);
        let closed = |from| EdgeEvent::Request { from, request: EdgeRequest::Closed(vec![flow]) };
        assert_eq!(on(&mut e, closed(A)), []);
        assert_eq!(on(&mut e, closed(B)), [EdgeCommand::Unbind { flows: vec![flow] }]);
    }

    #[test]
    fn flows_are_bound_for_their_owner_only_and_bounded() {
        let mut e = EdgeMachine::new(EdgeConfig { flows_max: 1, ..EdgeConfig::default() });
        record(&mut e, GroupRecord::fresh(G, A));
        gate(&mut e, A, 1);
        on(&mut e, EdgeEvent::Steered { groups: vec![steering(1, A, None)] });
        let flow = |port| Flow { ip: [10, 0, 0, 1], port, service_port: 80 };
        let entry = |port| FlowEntry { flow: flow(port), group: G };
        let flows = |from, ports: &[u16]| EdgeEvent::Request {
            from,
            request: EdgeRequest::Flows(ports.iter().map(|p| entry(*p)).collect()),
        };
        assert_eq!(on(&mut e, flows(B, &[1])), []);
        assert_eq!(on(&mut e, flows(A, &[1, 2])), [EdgeCommand::Bind { group: G, flows: vec![flow(1)] }]);
        assert_eq!((e.flows(), e.flows_refused()), (1, 1));
        assert_eq!(record(&mut e, GroupRecord::fresh(G, A).lost()), [EdgeCommand::Unbind { flows: vec![flow(1)] }]);
    }
}
