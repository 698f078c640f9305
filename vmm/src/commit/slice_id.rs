//! Slice ids.

use core::fmt;

/// A slice: a slot and the incarnation of its use. A slot that is used again is another slice (invariant I9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SliceId {
    /// Slot number in the cell's arena.
    pub slot: u32,
    /// Incarnation: `lease generation << 32 | counter`, grows with every use of the slot.
    pub incarnation: u64,
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.slot, self.incarnation >> 32, self.incarnation & 0xffff_ffff)
    }
}
