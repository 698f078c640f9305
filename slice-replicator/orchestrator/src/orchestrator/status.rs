//! What people want to know of a running orchestrator.

use super::node_link::Who;
use super::process::OrchestratorProcess;
use escape_proto::{GroupRecord, NodeRecord, NodeState};
use serde_json::{Value, json};

impl OrchestratorProcess {
    /// Nodes, groups and counters; the answer to `status` on standard input.
    pub fn status(&self) -> Value {
        let store = self.machine.store();
        let (forged, malformed) = self.beats.refused();
        let listener = self.listener.counters();
        let nodes: Vec<_> =
            store.into_iter().flat_map(|store| store.nodes().map(|node| self.node_status(node))).collect();
        let groups: Vec<_> = store.into_iter().flat_map(|store| store.groups().map(group_status)).collect();
        json!({
            "revision": store.map_or(0, |store| store.revision().0),
            "nodes": nodes,
            "groups": groups,
            "edge_linked": self.links.iter().any(|named| named.name.who == Who::Edge),
            "transactions_waiting": self.store.waiting(),
            "beats_forged": forged,
            "beats_malformed": malformed,
            "links": {
                "opened": listener.opened,
                "refused_stream": listener.refused_stream,
                "refused_hello": listener.refused_hello,
                "timed_out": listener.timed_out,
            },
        })
    }

    fn node_status(&self, node: &NodeRecord) -> Value {
        let counts = self.counts.get(&node.member).copied().unwrap_or_default();
        json!({
            "node": node.member.node.0,
            "inc": node.member.inc.0,
            "host": node.host,
            "up": node.state == NodeState::Up,
            "linked": self.links.iter().any(|named| named.name.who == Who::Member(node.member)),
            "suspected": self.machine.suspected().any(|member| member == node.member),
            "protected": counts.protected,
            "solo": counts.solo,
            "standby": counts.standby,
            "held_frames": counts.held_frames,
            "held_age_us": counts.held_age_us,
        })
    }
}

fn group_status(group: &GroupRecord) -> Value {
    json!({
        "group": group.group.0,
        "epoch": group.epoch.0,
        "owner": group.owner.node.0,
        "standby": group.standby.map(|standby| standby.node.0),
        "mode": format!("{:?}", group.mode),
    })
}
