//! What can go wrong with a heap.

/// Why a heap operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeapError {
    /// The heap is full, or too fragmented for a block of this size. Nothing was changed.
    #[error("slice heap: no room for {wanted} bytes ({used} of {size} in use)")]
    NoRoom {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes in use, headers included.
        used: usize,
        /// Bytes of the heap.
        size: usize,
    },
    /// The bytes are too few or too many for a heap.
    #[error("slice heap: {size} bytes cannot be a heap")]
    BadSize {
        /// Bytes offered.
        size: usize,
    },
    /// A block that is not in use, or that never was a block.
    #[error("slice heap: offset {offset:#x} is not a block in use")]
    NotABlock {
        /// The offset given.
        offset: u32,
    },
    /// The bookkeeping contradicts itself.
    #[error("slice heap: bookkeeping at {offset:#x} is damaged")]
    Corrupt {
        /// Where it was noticed, bytes from the heap's start.
        offset: u32,
    },
}
