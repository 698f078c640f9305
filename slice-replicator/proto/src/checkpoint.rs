//! Checkpoints, acknowledgements and refusals.

use crate::ids::{ChainHash, CheckpointNo, Epoch, Flow, GroupId, SliceId};
use serde::{Deserialize, Serialize};

/// What a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BodyKind {
    /// The slice's first checkpoint: a full body; membership of the group begins here (T2).
    Create,
    /// Changed lines against checkpoint `base`.
    Delta,
    /// All live lines; replaces whatever the receiver has. Carries the chain hash that it continues.
    Full,
    /// The slice's last checkpoint: a delta, after which the image is a tombstone (T10).
    Close,
}

/// Fields of a checkpoint that the protocol looks at. The link binds cluster and both incarnations (invariant I3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckpointHead {
    /// The group.
    pub group: GroupId,
    /// Epoch of the owner's record when it was sent.
    pub epoch: Epoch,
    /// The slice.
    pub slice: SliceId,
    /// Its number.
    pub no: CheckpointNo,
    /// The checkpoint that the body is a delta of; equals `no` − 1 for Delta and Close, 0 for Create and Full.
    pub base: CheckpointNo,
    /// What the body is.
    pub kind: BodyKind,
    /// Generation of the slot word that was captured: it covers frames that need at most this.
    pub generation: u64,
    /// Next byte expected from the client (what the standby's mirror need not keep).
    pub rcv_covered: u32,
    /// The client's connection.
    pub flow: Flow,
    /// Chain hash after this body. Delta/Close/Create: `prev.next(body)`. Full: the owner's chain, adopted.
    pub chain: ChainHash,
}

/// A checkpoint's bytes; the VMM's own encoding, opaque to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Body(#[serde(with = "serde_bytes_vec")] pub Vec<u8>);

mod serde_bytes_vec {
    use serde::{Deserializer, Serializer, de::Visitor};
    pub fn serialize<S: Serializer>(v: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(v)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, v: &[u8]) -> Result<Vec<u8>, E> {
                Ok(v.to_vec())
            }
            fn visit_byte_buf<E>(self, v: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(v)
            }
        }
        d.deserialize_bytes(Bytes)
    }
}

/// The standby has applied this checkpoint (and so all before it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ack {
    /// The group.
    pub group: GroupId,
    /// Epoch of the standby's record.
    pub epoch: Epoch,
    /// The slice.
    pub slice: SliceId,
    /// The highest applied checkpoint.
    pub no: CheckpointNo,
    /// Chain hash of the image; the owner compares.
    pub chain: ChainHash,
}

/// The standby did not apply, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// The group.
    pub group: GroupId,
    /// Epoch that the refused frame had.
    pub epoch: Epoch,
    /// The slice.
    pub slice: SliceId,
    /// The refused checkpoint.
    pub no: CheckpointNo,
    /// Why.
    pub cause: RefusalCause,
}

/// Causes of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalCause {
    /// The standby's record has a higher epoch: the sender is deposed (T7).
    Deposed {
        /// The epoch that the standby knows.
        current: Epoch,
    },
    /// The standby's record names somebody else as owner at this epoch.
    NotOwner,
    /// The base is not what the standby has: send a full copy.
    NeedFull {
        /// What it has; 0 = nothing.
        have: CheckpointNo,
    },
    /// The body or its hash is wrong: send a full copy.
    Corrupt {
        /// What was found.
        detail: String,
    },
    /// The standby has no room for this slice.
    NoRoom,
    /// The receiver knows that the slice was given up.
    Quarantined,
    /// The standby does not know the record yet and its waiting room is full.
    Unknown,
}
