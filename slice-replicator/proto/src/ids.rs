//! Identities.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A node of the cell (at most 16 in a cell, so ids are small).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u16);

/// How many times the node has joined; given by the store, never reused. 0 is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// One life of a node: what records name, so that a restarted node is another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub inc: Incarnation,
}

/// A group of slices that share owner and standby. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// Grows with every change of a group's {owner, standby, mode} (invariant I2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// A slot and its incarnation: a reused slot is another slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SliceId {
    /// Slot of the arena.
    pub slot: u32,
    /// `lease generation << 32 | counter`.
    pub inc: u64,
}

/// Number of a checkpoint of a slice: 1, 2, 3 …; 0 = before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckpointNo(pub u64);

/// A lease: 64 slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseId(pub u32);

/// Revision of the store: one more with each transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revision(pub u64);

/// `H_k = BLAKE3(H_{k-1} ‖ body)` over a slice's checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChainHash(pub [u8; 32]);

/// A client's TCP connection as the service sees it (host byte order of ports).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// Client address.
    pub ip: [u8; 4],
    /// Client port.
    pub port: u16,
    /// Service port.
    pub service_port: u16,
}

impl ChainHash {
    /// The chain before the first checkpoint.
    pub const START: Self = Self([0; 32]);

    /// The chain after one more body.
    pub fn next(self, body: &[u8]) -> Self {
        let mut h = blake3::Hasher::new();
        h.update(&self.0);
        h.update(body);
        Self(*h.finalize().as_bytes())
    }
}

impl Epoch {
    /// The epoch after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl CheckpointNo {
    /// The checkpoint after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

macro_rules! display {
    ($($t:ty, $fmt:literal, $($f:ident),+);+ $(;)?) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self { $($f),+ } = self;
                write!(f, $fmt, $($f),+)
            }
        }
    )+};
}
display! {
    Member, "{}/{}", node, inc;
    SliceId, "{}:{:x}", slot, inc;
}
macro_rules! display_number {
    ($($t:ident),+) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}
display_number!(NodeId, Incarnation, GroupId, Epoch, CheckpointNo, LeaseId, Revision);

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.ip;
        write!(f, "{a}.{b}.{c}.{d}:{}→{}", self.port, self.service_port)
    }
}
