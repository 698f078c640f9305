//! Notes of the machine as events for people and drills.

use crate::event_log::ProcessEvent;
use escape_engine::Micros;
use escape_engine::orchestrator::Note;
use escape_proto::{Member, Milestone, NodeId};
use serde_json::{Value, json};

/// The event that a note is; `None` for figures, which are kept and asked for.
pub(super) fn event_of(now: Micros, note: &Note) -> Option<ProcessEvent> {
    let (event, node, detail) = match note {
        Note::Joined { member } => ("joined", Some(member.node), json!({ "inc": member.inc.0 })),
        Note::JoinRefused { node, cause } => ("join-refused", Some(*node), json!({ "cause": cause })),
        Note::Suspected { member, silent_us } => (
            "suspected",
            Some(member.node),
            json!({ "by": "orchestrator", "inc": member.inc.0, "silent_us": silent_us }),
        ),
        Note::Recovered { member } => ("recovered", Some(member.node), json!({ "inc": member.inc.0 })),
        Note::DecidedDead { member, silent_us, detected_by } => (
            "decided-dead",
            Some(member.node),
            json!({ "inc": member.inc.0, "silent_us": silent_us, "detected_by": numbers(detected_by) }),
        ),
        Note::Dead { member } => ("dead", Some(member.node), json!({ "inc": member.inc.0 })),
        Note::Handed { group, epoch, to } => {
            ("epoch-raised", Some(to.node), json!({ "group": group.0, "epoch": epoch.0, "inc": to.inc.0 }))
        }
        Note::Orphaned { group, owner } => ("orphaned", Some(owner.node), json!({ "group": group.0 })),
        Note::Claimed { group, epoch, to } => {
            ("claimed", Some(to.node), json!({ "group": group.0, "epoch": epoch.0, "inc": to.inc.0 }))
        }
        Note::Lost { group, owner } => ("lost", Some(owner.node), json!({ "group": group.0 })),
        Note::Moved { from, to, group, slices } => {
            ("moved", Some(to.node), json!({ "from": from.node.0, "group": group.0, "slices": slices }))
        }
        Note::Milestone { from, at_us, what } => return Some(milestone(*at_us, *from, what)),
        Note::Counts { .. } => return None,
        Note::StoreUnavailable { cause } => ("store-unavailable", None, json!({ "cause": cause })),
        Note::Overloaded => ("overloaded", None, Value::Null),
    };
    Some(ProcessEvent { t_us: now, event, node: node.map(|node| node.0), detail })
}

/// A node's own milestone, at its own time.
fn milestone(t_us: Micros, from: Member, what: &Milestone) -> ProcessEvent {
    let of = |event, detail| ProcessEvent { t_us, event, node: Some(from.node.0), detail };
    let group =
        |group: &escape_proto::GroupId, epoch: &escape_proto::Epoch| json!({ "group": group.0, "epoch": epoch.0 });
    match what {
        Milestone::Suspected(member) => ProcessEvent {
            t_us,
            event: "suspected",
            node: Some(member.node.0),
            detail: json!({ "by": "node", "node": from.node.0, "inc": member.inc.0 }),
        },
        Milestone::GateClosed(g, e) => of("gate-closed", group(g, e)),
        Milestone::FirstPlugged(g, e) => of("first-plugged", group(g, e)),
        Milestone::LastPlugged(g, e, slices) => {
            of("last-plugged", json!({ "group": g.0, "epoch": e.0, "slices": slices }))
        }
        Milestone::GuestDown(cause) => of("guest-down", json!({ "cause": cause })),
        Milestone::GuestReady => of("guest-ready", Value::Null),
        Milestone::Deposed(g, e) => of("deposed", group(g, e)),
        Milestone::Protected(g, e, slices) => of("protected", json!({ "group": g.0, "epoch": e.0, "slices": slices })),
        Milestone::Quarantined(slot, inc, cause) => {
            of("quarantined", json!({ "slot": slot, "inc": inc, "cause": cause }))
        }
    }
}

fn numbers(nodes: &[NodeId]) -> Vec<u16> {
    nodes.iter().map(|node| node.0).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use escape_proto::{Epoch, GroupId, Incarnation};

    #[test]
    fn an_event_is_about_the_node_that_it_concerns() {
        let of = |node| Member { node: NodeId(node), inc: Incarnation(4) };
        let line = |note: &Note| serde_json::to_value(event_of(9, note).unwrap()).unwrap();
        let suspected = Note::Suspected { member: of(2), silent_us: 12_500 };
        let want = json!({ "t_us": 9, "event": "suspected", "node": 2,
            "detail": { "by": "orchestrator", "inc": 4, "silent_us": 12_500 } });
        assert_eq!(line(&suspected), want);
        let standby = Note::Milestone { from: of(1), at_us: 7, what: Milestone::Suspected(of(2)) };
        let want =
            json!({ "t_us": 7, "event": "suspected", "node": 2, "detail": { "by": "node", "node": 1, "inc": 4 } });
        assert_eq!(line(&standby), want);
        let handed = Note::Handed { group: GroupId(3), epoch: Epoch(5), to: of(1) };
        assert_eq!(line(&handed)["node"], 1);
        assert_eq!(line(&handed)["event"], "epoch-raised");
    }
}
