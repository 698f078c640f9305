//! Who is dead? The orchestrator's own suspicion and that of a standby are both needed.

use super::command::{Note, OrchestratorCommand};
use super::machine::{Intent, Orchestrator};
use crate::Micros;
use escape_proto::{Member, Mode, NodeId, NodeState};
use std::collections::BTreeSet;

impl Orchestrator {
    /// Looks at the heartbeats.
    pub(super) fn detect(&mut self, now: Micros, out: &mut Vec<OrchestratorCommand>) {
        let suspects = self.suspicion.suspects(now);
        let Some(store) = &self.store else { return };
        let up: Vec<Member> = store.nodes().filter(|n| n.state == NodeState::Up).map(|n| n.member).collect();
        let mut suspected = BTreeSet::new();
        for member in &up {
            let silent_us = self.suspicion.silent_us(now, member.node).unwrap_or(0);
            if !has_bit(suspects, member.node) {
                if self.suspected.contains(member) {
                    out.push(OrchestratorCommand::Note(Note::Recovered { member: *member }));
                }
                continue;
            }
            suspected.insert(*member);
            if !self.suspected.contains(member) {
                out.push(OrchestratorCommand::Note(Note::Suspected { member: *member, silent_us }));
            }
            if self.condemned.contains(member) {
                continue;
            }
            if let Some(detected_by) = self.confirmed(*member, &up, suspects, silent_us) {
                let member = *member;
                self.condemned.insert(member);
                out.push(OrchestratorCommand::Note(Note::DecidedDead { member, silent_us, detected_by }));
                self.queue.push_back(Intent::Dead { member });
            }
        }
        self.suspected = suspected;
    }

    /// Nodes that confirm the suspicion, if that is enough for a failover.
    ///
    /// A standby of the node that is heard and suspects it too is enough at once. If none of its standbys is heard,
    /// another node's word counts after `double_fault_after_us`. A node that has no standby at all can only be mourned,
    /// not replaced: the orchestrator alone decides, after the same time.
    fn confirmed(&self, member: Member, up: &[Member], suspects: u32, silent_us: u64) -> Option<Vec<NodeId>> {
        let store = self.store.as_ref()?;
        let standbys: BTreeSet<Member> = store
            .groups()
            .filter(|g| g.owner == member && g.mode == Mode::Paired)
            .filter_map(|g| g.standby)
            .filter(|s| up.contains(s))
            .collect();
        let heard = |m: &Member| !has_bit(suspects, m.node) && m.node != member.node;
        let says = |m: &Member| self.suspicion.is_suspected_by(member.node, m.node);
        let witnesses: Vec<NodeId> = up.iter().filter(|m| heard(m) && says(m)).map(|m| m.node).collect();
        let patient = silent_us >= self.config.double_fault_after_us;
        let enough = if standbys.is_empty() {
            patient
        } else if standbys.iter().any(heard) {
            standbys.iter().any(|s| heard(s) && says(s))
        } else {
            patient && !witnesses.is_empty()
        };
        enough.then_some(witnesses)
    }
}

fn has_bit(mask: u32, node: NodeId) -> bool {
    1u32.checked_shl(u32::from(node.0)).is_some_and(|bit| mask & bit != 0)
}
