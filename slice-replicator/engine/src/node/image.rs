//! A slice that this node stands by for.

use escape_proto::{ChainHash, CheckpointHead, CheckpointNo, Epoch, Flow, GroupId};

/// What the engine knows about an image that the caller keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub group: GroupId,
    /// Epoch at which it was confirmed last.
    pub epoch: Epoch,
    pub no: CheckpointNo,
    pub chain: ChainHash,
    pub generation: u64,
    pub rcv_covered: u32,
    pub flow: Flow,
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
        }
    }

    /// The image has this checkpoint already (a repetition after a lost acknowledgement or a new epoch).
    pub fn has(&self, head: &CheckpointHead) -> bool {
        self.no > head.no || (self.no == head.no && self.chain == head.chain)
    }
}
