//! A slice that this node stands by for.

use escape_proto::{ChainHash, CheckpointHead, CheckpointNo, Epoch, Flow, GroupId};

/// What the engine knows about an image that the caller keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Image {
    pub group: GroupId,
    /// Epoch at which it was confirmed last.
    pub epoch: Epoch,
    pub no: CheckpointNo,
    pub chain: ChainHash,
    pub generation: u64,
    pub rcv_covered: u32,
    pub flow: Flow,
    /// Its CLOSE is applied: the caller has a tombstone, and this is only the memory of it, so that a copy which comes
    /// late does not bring the slice back (I9). One per slot is kept.
    pub closed: bool,
    /// An own image of a former life whose latest checkpoint is a CLOSE that was not committed.
    pub closing: bool,
}

impl Image {
    /// The image after this checkpoint was applied.
    pub const fn of(head: &CheckpointHead) -> Self {
        Self {
            group: head.group,
            epoch: head.epoch,
            no: head.no,
            chain: head.chain,
            generation: head.generation,
            rcv_covered: head.rcv_covered,
            flow: head.flow,
            closed: false,
            closing: false,
        }
    }

    /// The image has this checkpoint already (a repetition after a lost acknowledgement or a new epoch).
    pub fn has(&self, head: &CheckpointHead) -> bool {
        self.no > head.no || (self.no == head.no && (self.closed || self.chain == head.chain))
    }
}
