//! Where a drill has the orchestrator end itself: steps of a failover that are over before anybody outside sees them.

use escape_engine::store::Record;
use escape_proto::NodeState;

/// A step of the next node's death; told by `end STEP` on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndPoint {
    /// The node's death is decided, the store does not know it.
    BeforeTransaction,
    /// The store knows it, and nobody was told.
    AfterTransaction,
}

impl EndPoint {
    /// By its name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "before-transaction" => Some(Self::BeforeTransaction),
            "after-transaction" => Some(Self::AfterTransaction),
            _ => None,
        }
    }
}

/// Whether these records say that a node is dead.
pub(super) fn tells_a_death(put: &[Record]) -> bool {
    put.iter().any(|record| matches!(record, Record::Node(node) if node.state == NodeState::Dead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_proto::{Incarnation, Member, NodeId, NodeRecord};

    #[test]
    fn only_a_dead_node_is_a_death() {
        let record = |state| {
            let member = Member { node: NodeId(1), inc: Incarnation(1) };
            Record::Node(NodeRecord {
                member,
                state,
                host: "a".into(),
                digest: [0; 32],
                addr: String::new(),
                memory: 0,
            })
        };
        assert!(!tells_a_death(&[record(NodeState::Up)]));
        assert!(tells_a_death(&[record(NodeState::Up), record(NodeState::Dead)]));
        assert_eq!(EndPoint::named("after-transaction"), Some(EndPoint::AfterTransaction));
        assert_eq!(EndPoint::named("now"), None);
    }
}
