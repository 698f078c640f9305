//! Keys and records (PROTOCOL.md, "Records and transitions").

use escape_proto::{
    BucketTable, GroupId, GroupRecord, LeaseId, LeaseRecord, MoveRecord, NodeId, NodeRecord, QuarantineRecord, SliceId,
};
use serde::{Deserialize, Serialize};

/// Name of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// `cluster`.
    Cluster,
    /// `node/<n>`.
    Node(NodeId),
    /// `group/<g>`.
    Group(GroupId),
    /// `bucket/*`: one record for the whole table.
    Buckets,
    /// `lease/<r>`.
    Lease(LeaseId),
    /// `quarantine/<slot, inc>`.
    Quarantine(SliceId),
    /// `move/<g'>`: by the group that was made for it.
    Move(GroupId),
}

/// `cluster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Made when the store was created; nodes refuse another one.
    pub cluster: [u8; 16],
    /// Format of the records.
    pub format: u32,
    /// The group id that comes next: ids are never reused (I2).
    pub next_group: u32,
    /// Hash seed of flow placement.
    pub placement_seed: u32,
    /// Digest of the guest image that the cell runs, once the first node has joined.
    pub digest: Option<[u8; 32]>,
}

impl ClusterRecord {
    /// The format that this code writes.
    pub const FORMAT: u32 = 1;
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// The cluster.
    Cluster(ClusterRecord),
    /// A node.
    Node(NodeRecord),
    /// A group.
    Group(GroupRecord),
    /// Placement of new flows.
    Buckets(BucketTable),
    /// A lease.
    Lease(LeaseRecord),
    /// A quarantined slice.
    Quarantine(QuarantineRecord),
    /// A move of slices.
    Move(MoveRecord),
}

impl Record {
    /// Its name.
    pub const fn key(&self) -> Key {
        match self {
            Self::Cluster(_) => Key::Cluster,
            Self::Node(r) => Key::Node(r.member.node),
            Self::Group(r) => Key::Group(r.group),
            Self::Buckets(_) => Key::Buckets,
            Self::Lease(r) => Key::Lease(r.lease),
            Self::Quarantine(r) => Key::Quarantine(r.slice),
            Self::Move(r) => Key::Move(r.to),
        }
    }
}
