//! Deliberate faults of the node's runtime (`escape drill --break`): what the engine's mutants break is made wide enough
//! to be seen within a few rounds. Nothing here runs without `broken` in the configuration.

use crate::node::Node;
use escape_engine::Mutant;
use escape_engine::node::Event;
use escape_proto::{CasOutcome, CheckpointHead, Epoch, GroupId, GroupRecord, Member, Mode, NodeRecord, NodeState};
use std::collections::VecDeque;

/// Mutant "early release": checkpoints leave this much after the output that they cover.
const LATE_SEND_US: u64 = 60_000;
/// Mutant "CAS before sync": full copies leave this late.
const LATE_COPY_US: u64 = 3_000_000;
/// Mutant "flip before gate": the gate is closed this late.
const LATE_GATE_US: u64 = 120_000;

/// What is done late on purpose. Bounded by what a drill makes in the times above.
#[derive(Debug, Default)]
pub struct Sabotage {
    sends: VecDeque<(u64, Member, CheckpointHead, Vec<u8>, bool)>,
    gates: VecDeque<(u64, GroupId, Epoch)>,
}

impl Node {
    /// Sends a checkpoint, or (broken on purpose) puts it off.
    pub(crate) fn send_checkpoint(&mut self, to: Member, head: CheckpointHead, wire: &[u8], full: bool) {
        let late = match self.broken {
            Some(Mutant::EarlyRelease) => LATE_SEND_US,
            Some(Mutant::CasBeforeSync) if full => LATE_COPY_US,
            _ => return self.peers.send_checkpoint(to, head, wire, full),
        };
        let due = self.now() + late;
        self.sabotage.sends.push_back((due, to, head, wire.to_vec(), full));
    }

    /// Broken on purpose: the flip goes ahead, the gate is closed later. True if so.
    pub(crate) fn puts_gate_off(&mut self, group: GroupId, epoch: Epoch) -> bool {
        if self.broken != Some(Mutant::FlipBeforeGate) || epoch <= Epoch(1) {
            return false;
        }
        let due = self.now() + LATE_GATE_US;
        self.sabotage.gates.push_back((due, group, epoch));
        true
    }

    /// Does what was put off and is due.
    pub(crate) fn do_late(&mut self, now: u64) {
        while self.sabotage.sends.front().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, to, head, wire, full)) = self.sabotage.sends.pop_front() {
                self.peers.send_checkpoint(to, head, &wire, full);
            }
        }
        while self.sabotage.gates.front().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, group, epoch)) = self.sabotage.gates.pop_front() {
                self.close_gate(group);
                self.engine_event(Event::GateClosed { group, epoch });
            }
        }
    }

    /// Mutant "old epoch": does this node believe to own the group, whatever it is told?
    pub(crate) fn is_deaf(&self, group: GroupId) -> bool {
        let paired = || self.engine.record(group).is_some_and(|r| r.mode == Mode::Paired);
        self.broken == Some(Mutant::OldEpoch) && self.engine.owns(group) && paired()
    }

    /// Mutant "old epoch": the store says what the node knows.
    pub(crate) fn believes(&self, group: GroupId, outcome: CasOutcome) -> CasOutcome {
        match self.engine.record(group) {
            Some(own) if self.is_deaf(group) => CasOutcome::Is(*own),
            _ => outcome,
        }
    }

    /// Mutant "old epoch": every standby still stands by.
    pub(crate) fn hears(&self, group: GroupId, epoch: Epoch, standing_by: bool) -> (Epoch, bool) {
        match self.engine.record(group) {
            Some(own) if self.is_deaf(group) => (own.epoch, true),
            _ => (epoch, standing_by),
        }
    }

    /// Mutant "old epoch": a deposed owner that does not hear of it.
    pub(crate) fn overhears(&self, nodes: &mut Vec<NodeRecord>, groups: &mut Vec<GroupRecord>) {
        if self.broken == Some(Mutant::OldEpoch) {
            nodes.retain(|n| n.state == NodeState::Up || n.node().0 != self.config.id);
            groups.retain(|g| Some(g.owner) == self.me || !self.engine.owns(g.group));
        }
    }
}
