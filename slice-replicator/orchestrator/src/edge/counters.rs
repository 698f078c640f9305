//! The edge's counters as its operators read them.

use super::steering::Steering;
use crate::os::now_us;
use escape_fabric::arp::ArpCounters;
use escape_fabric::fabric::FabricError;
use serde_json::{Map, Value, json};

/// Answer to `counters` on standard input.
///
/// `nodes.<n>.passed_after_deposed`: frames of a node that the fabric let through to clients while the node owned no
/// group after having owned some, counted from right after the flip that took its last one. It must stay 0 (P2).
pub(super) fn counters(steering: &mut Steering, arp: ArpCounters) -> Result<Value, FabricError> {
    let Some(fabric) = steering.counters()? else {
        return Ok(json!({ "t_us": now_us(), "error": "a former edge's tables are still in force" }));
    };
    let mut nodes = Map::new();
    for (node, sent) in &fabric.sent {
        let deposed = steering.deposed();
        let entry = json!({
            "sent": sent,
            "dropped": fabric.dropped.get(node).copied().unwrap_or_default(),
            "groups": steering.groups_of(*node),
            "deposed": deposed.is_deposed(*node),
            "passed_after_deposed": deposed.passed(*node, &fabric.sent).unwrap_or_default(),
        });
        nodes.insert(node.to_string(), entry);
    }
    Ok(json!({
        "t_us": now_us(),
        "nodes": nodes,
        "steered": fabric.steered,
        "mirrored": fabric.mirrored,
        "placed": fabric.placed,
        "refused": {
            "no_owner": fabric.no_owner,
            "no_bucket": fabric.no_bucket,
            "flows_full": fabric.flows_full,
            "unknown_flow": fabric.unknown_flow,
            "wrong_port": fabric.wrong_port,
            "not_service": fabric.not_service,
            "icmp": fabric.icmp,
            "fragment": fabric.fragment,
            "not_tcp": fabric.not_tcp,
            "other": fabric.other,
        },
        "flow_changes_waiting": steering.backlog().len(),
        "flow_changes_dropped": steering.backlog().dropped(),
        "arp": { "seen": fabric.arp, "answered": arp.answered, "limited": arp.limited, "malformed": arp.malformed,
            "conflicts": arp.conflicts },
    }))
}
