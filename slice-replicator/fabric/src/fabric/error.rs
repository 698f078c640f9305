use thiserror::Error;

use super::{BUCKETS, FLOWS_MAX, GROUPS_MAX, PORTS_MAX};
use crate::links::LinkError;
use crate::netns::NetNsError;
use crate::nft::NftError;
use crate::{GroupId, NodeId};

/// What can go wrong with the fabric. Unless [`FabricError::outcome_unknown`], nothing was changed.
#[derive(Debug, Error)]
pub enum FabricError {
    /// The tables could not be changed or read.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Interfaces could not be looked up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The namespace could not be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// A place names a node without a port here.
    #[error("group {group}: node {node} has no port on this edge")]
    NoSuchPort {
        /// The group that was to be placed.
        group: GroupId,
        /// The node.
        node: NodeId,
    },
    /// A node's interface is gone, or its index is another interface's now.
    #[error("node {node}: interface {name} (index {index}) is gone; add the port again once it is back")]
    PortVanished {
        /// The node.
        node: NodeId,
        /// Name of the interface when the port was added.
        name: String,
        /// Its index then.
        index: u32,
    },
    /// The interface towards the clients is gone.
    #[error("uplink {name} (index {index}) is gone: install the fabric again once it is back")]
    UplinkVanished {
        /// Its name.
        name: String,
        /// Its former index.
        index: u32,
    },
    /// A node or an interface has a port already.
    #[error("node {node}: it, or one of its interfaces, has a port already")]
    DuplicatePort {
        /// The node.
        node: NodeId,
    },
    /// A node has no port.
    #[error("node {node} has no port on this edge")]
    UnknownPort {
        /// The node.
        node: NodeId,
    },
    /// Too many ports.
    #[error("more than {PORTS_MAX} node ports on one edge")]
    TooManyPorts,
    /// Two places for one group in one call.
    #[error("group {group} is placed twice in one step")]
    DuplicateGroup {
        /// The group.
        group: GroupId,
    },
    /// A group number without a mark.
    #[error("group {group} cannot be steered: the greatest number is 4294967294")]
    BadGroup {
        /// The group.
        group: GroupId,
    },
    /// Too many groups.
    #[error("more than {GROUPS_MAX} groups on one edge")]
    TooManyGroups,
    /// A bucket that does not exist.
    #[error("bucket {bucket}: there are {BUCKETS}, counted from 0")]
    BadBucket {
        /// The bucket.
        bucket: u16,
    },
    /// No room for these flows.
    #[error("{flows} flows to add do not fit: the edge knows at most {FLOWS_MAX}")]
    FlowsFull {
        /// How many were to be added.
        flows: usize,
    },
    /// A flow that no node may have.
    #[error("a flow to port {port} of the service, which is not protected, cannot be steered")]
    UnprotectedPort {
        /// The port.
        port: u16,
    },
    /// The protected ports make no sense.
    #[error("{count} protected TCP ports: 1 to 1000 are wanted, port 0 not among them")]
    BadTcpPorts {
        /// How many there are.
        count: usize,
    },
}

impl FabricError {
    /// Whether the change may or may not have been made. The next change looks first.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Nft(error) if error.outcome_unknown())
    }
}
