//! How far one receiver is with one slice.

use escape_proto::CheckpointNo;

/// A receiver's progress with a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Track {
    /// Highest checkpoint sent on the present link; a delta may follow it. 0 = the receiver has no base.
    pub sent: u64,
    /// Something was sent in this epoch: the receiver may have an image.
    pub touched: bool,
    /// Highest acknowledged checkpoint.
    pub acked: u64,
    /// Generation that the acknowledged checkpoint covers.
    pub acked_generation: Option<u64>,
    /// A full copy of this checkpoint is on its way.
    pub full: Option<u64>,
    /// A checkpoint after that full copy was refused: when the copy is acknowledged, another one must follow.
    pub gap: bool,
    /// While the group drains: what must be acknowledged before the record may name the receiver; 0 = nothing more.
    pub goal: u64,
    /// Where a CLOSE stands that had to be sent as a full copy.
    pub close: CloseStep,
}

/// A CLOSE is a delta; a receiver without a base gets a full copy of the closed state and then the CLOSE once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum CloseStep {
    /// The CLOSE went out as it is.
    #[default]
    Plain,
    /// The full copy is on its way.
    FullSent,
    /// The CLOSE follows.
    CloseSent,
}

impl Track {
    /// What was sent and not acknowledged must be taken as not delivered: a full copy is due if that is not all.
    pub fn forget_unacked(&mut self, last: CheckpointNo) {
        self.sent = if self.acked == last.0 { self.acked } else { 0 };
        self.full = None;
        self.gap = false;
        self.close = CloseStep::Plain;
    }

    /// A full copy is due and none is on its way.
    pub const fn needs_full(&self, last: CheckpointNo) -> bool {
        self.sent < last.0 && self.full.is_none()
    }
}
