//! What the orchestrator calls its links.

use escape_engine::orchestrator::{LinkId, Peer};
use escape_link::Peer as LinkPeer;
use escape_proto::{Member, NodeId, Role};

/// The name of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeLink {
    /// Unique in this process.
    pub(super) id: LinkId,
    /// Who is at the other end.
    pub(super) who: Who,
}

/// The other end of a link, as its certificate and hello say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A node that has not joined on this link yet.
    Stranger(NodeId),
    /// A life of a node.
    Member(Member),
    /// The edge.
    Edge,
    /// A person's command.
    Operator,
}

impl Who {
    /// `None` for a role that the listener does not admit anyhow.
    pub(super) const fn of(peer: &LinkPeer) -> Option<Self> {
        match (peer.member(), peer.role) {
            (Some(member), _) => Some(Self::Member(member)),
            (None, Role::Node(node)) => Some(Self::Stranger(node)),
            (None, Role::Edge) => Some(Self::Edge),
            (None, Role::Operator) => Some(Self::Operator),
            (None, Role::Orchestrator) => None,
        }
    }

    /// The node, for a join.
    pub(super) const fn node(self) -> Option<NodeId> {
        match self {
            Self::Stranger(node) => Some(node),
            Self::Member(member) => Some(member.node),
            Self::Edge | Self::Operator => None,
        }
    }

    /// As the machine calls it; a stranger has no name there but its link's, an operator none at all.
    pub(super) const fn peer(self) -> Option<Peer> {
        match self {
            Self::Stranger(_) | Self::Operator => None,
            Self::Member(member) => Some(Peer::Node(member)),
            Self::Edge => Some(Peer::Edge),
        }
    }
}
