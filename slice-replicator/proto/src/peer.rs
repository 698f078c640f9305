//! Node ↔ node.

use crate::checkpoint::{Ack, Body, CheckpointHead, Refusal};
use crate::ids::{Epoch, GroupId, SliceId};
use serde::{Deserialize, Serialize};

/// Messages of the replication link, in both directions (each node may own groups that the other stands by).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerMessage {
    /// A checkpoint.
    Checkpoint(CheckpointHead, Body),
    /// Applied.
    Ack(Ack),
    /// Not applied.
    Refusal(Refusal),
    /// "Do you still stand by this group at this epoch?" after a pause (T7).
    Probe {
        /// The group.
        group: GroupId,
        /// The owner's epoch.
        epoch: Epoch,
        /// Returned in the answer.
        nonce: u64,
    },
    /// Answer to a probe.
    ProbeReply {
        /// The group.
        group: GroupId,
        /// The standby's epoch of it: the owner goes on only if it equals its own.
        epoch: Epoch,
        /// The probe's.
        nonce: u64,
        /// The standby's record names the asker as owner and itself as standby.
        standing_by: bool,
    },
    /// The sender has given up a slice of its group: its image is to be dropped.
    Quarantine {
        /// The group.
        group: GroupId,
        /// The owner's epoch.
        epoch: Epoch,
        /// The slice.
        slice: SliceId,
    },
}
