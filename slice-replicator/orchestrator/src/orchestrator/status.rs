//! What people want to know of a running orchestrator.

use super::node_link::Who;
use super::process::OrchestratorProcess;
use crate::os::now_us;
use escape_proto::{CellStatus, GroupRecord, GroupStatus, LeaseState, Member, Mode, NodeRecord, NodeState, NodeStatus};
use serde_json::{Value, json};

impl OrchestratorProcess {
    /// Nodes, groups and what happened last; the answer to an operator.
    pub fn cell_status(&self) -> CellStatus {
        let store = self.machine.store();
        let now = now_us();
        let groups = || store.into_iter().flat_map(|store| store.groups());
        CellStatus {
            revision: store.map_or(0, |store| store.revision().0),
            uptime_us: self.figures.uptime_us(now),
            edge_linked: self.links.iter().any(|named| named.name.who == Who::Edge),
            transactions_waiting: self.store.waiting() as u64,
            nodes: store.into_iter().flat_map(|store| store.nodes().map(|node| self.node_status(node))).collect(),
            groups: groups().filter(|g| g.mode != Mode::Lost).map(|g| self.group_status(now, g)).collect(),
            groups_lost: groups().filter(|g| g.mode == Mode::Lost).count() as u64,
            slices_lost: self.figures.slices_lost,
            slices_quarantined: self.figures.slices_quarantined(),
            leases_free: self.machine.leases_free(),
            leases_draining: self.leases(LeaseState::Draining, None),
            failovers: self.figures.failovers.count(),
            last_failover: self.figures.failovers.last(),
        }
    }

    /// The same and the process's counters; the answer to `status` on standard input.
    pub fn status(&self) -> Value {
        let (forged, malformed) = self.beats.refused();
        let mut status = serde_json::to_value(self.cell_status()).unwrap_or_default();
        let links: serde_json::Map<_, _> = self
            .listener
            .counters()
            .outcomes()
            .map(|(how, count)| (how.to_owned(), count.into()))
            .into_iter()
            .collect();
        if let Value::Object(fields) = &mut status {
            fields.insert("beats_forged".into(), json!(forged));
            fields.insert("beats_malformed".into(), json!(malformed));
            fields.insert("links".into(), links.into());
        }
        status
    }

    /// Leases in this state, of this holder.
    fn leases(&self, state: LeaseState, holder: Option<Member>) -> u32 {
        let all = self.machine.store().into_iter().flat_map(|store| store.leases());
        let count =
            all.filter(|lease| lease.state == state && holder.is_none_or(|holder| lease.holder == holder)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn node_status(&self, node: &NodeRecord) -> NodeStatus {
        let counts = self.figures.node(node.member);
        NodeStatus {
            node: node.member.node.0,
            inc: node.member.inc.0,
            host: node.host.clone(),
            up: node.state == NodeState::Up,
            linked: self.links.iter().any(|named| named.name.who == Who::Member(node.member)),
            suspected: self.machine.suspected().any(|member| member == node.member),
            leases: self.leases(LeaseState::Active, Some(node.member)),
            protected: counts.protected,
            solo: counts.solo,
            standby: counts.standby,
            held_frames: counts.held_frames,
            held_age_us: counts.held_age_us,
        }
    }

    fn group_status(&self, now: u64, record: &GroupRecord) -> GroupStatus {
        let figures = self.figures.group(record.group);
        GroupStatus {
            group: record.group.0,
            epoch: record.epoch.0,
            owner: record.owner.node.0,
            standby: record.standby.map(|standby| standby.node.0),
            mode: record.mode,
            protected: figures.protected,
            solo: figures.solo,
            unprotected_us: figures.solo_since.map_or(0, |since| now.saturating_sub(since)),
        }
    }
}
