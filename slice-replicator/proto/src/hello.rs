//! The first message on every link, after the transport's mutual authentication.

use crate::ids::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};

/// Version of everything in this crate; both ends must have the same.
pub const PROTOCOL_VERSION: u32 = 4;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// A node.
    Node(NodeId),
    /// The orchestrator.
    Orchestrator,
    /// The edge.
    Edge,
    /// A person's command (`escape status`).
    Operator,
}

/// Says who the sender is and whom it believes to talk to. The certificate must say the same role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// Cluster id (all zero before the first join).
    pub cluster: [u8; 16],
    /// The sender.
    pub from: Role,
    /// Its life (0 before it has joined).
    pub inc: Incarnation,
    /// The receiver's life that the sender's records name (0 = any).
    pub expect: Incarnation,
    /// Which connection of the pair this is: 0 = commits, 1 = bulk copies.
    pub channel: u8,
}

/// Answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// The receiver's own hello.
    Welcome(Hello),
    /// Refused: the link is closed after this.
    Refused {
        /// For people and logs.
        cause: String,
    },
}
