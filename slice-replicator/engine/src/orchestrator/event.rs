//! What happens to the orchestrator.

use crate::store::{Changes, StoreState};
use escape_proto::{Beat, JoinRequest, Member, NodeId, ToOrchestrator};

/// The runtime's name for a connection whose peer has not joined yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Who is at the other end of a link, as its handshake bound it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// A node that has joined.
    Node(Member),
    /// The edge.
    Edge,
}

/// Why a transaction was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnFailure {
    /// Somebody else wrote: this is the store now.
    #[error("another writer changed the store, which is at revision {rev} now", rev = .now.revision())]
    Conflict {
        /// The store as it is.
        now: Box<StoreState>,
    },
    /// The store does not answer; whether it wrote is not known. The same transaction is tried again.
    #[error("the store is not available: {cause}")]
    Unavailable {
        /// For people.
        cause: String,
    },
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrchestratorEvent {
    /// The store was read. First event; nothing is answered before it.
    Started {
        /// The store's contents.
        image: Box<StoreState>,
    },
    /// A process wants to be a node (T1).
    Join {
        /// Its connection: the answer goes there, and so do all records.
        link: LinkId,
        /// Which node it is (its certificate says so).
        node: NodeId,
        /// The request.
        request: JoinRequest,
    },
    /// A link to a joined node or to the edge is up: it gets all records.
    LinkUp(Peer),
    /// A link is gone: a hint only.
    LinkDown(Peer),
    /// A message of a joined node.
    Request {
        /// The sender, as its link bound it.
        from: Member,
        /// The message (a Join here is ignored).
        request: ToOrchestrator,
    },
    /// A heartbeat, already authenticated.
    Beat(Beat),
    /// A transaction ended.
    TxnDone {
        /// The transaction's.
        id: u64,
        /// What it changed, or why not.
        result: Result<Changes, TxnFailure>,
    },
    /// Time passed. At least every 2 ms (the own-pause rule is `SuspicionConfig::own_pause_us`).
    Tick,
}
