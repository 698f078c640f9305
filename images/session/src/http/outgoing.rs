//! Reply bodies that may be larger than the transmit ring: made piece by piece as it takes them.

use crate::http::heap::SliceHeap;
use crate::pattern;
use escape_arena::{Block, HeapError};

/// A reply body that is larger than the transmit ring may be.
#[derive(Clone, Copy, Debug)]
#[repr(C, u32)]
pub(crate) enum Outgoing {
    Pattern { at: u64, end: u64 },
    Value { block: u32, at: u32, end: u32 },
}

impl Outgoing {
    /// Bytes that are still to be sent.
    pub(crate) fn len(&self) -> u64 {
        match *self {
            Self::Pattern { at, end } => end.saturating_sub(at),
            Self::Value { at, end, .. } => u64::from(end.saturating_sub(at)),
        }
    }

    /// Makes the next bytes; returns how many.
    pub(crate) fn fill(&mut self, heap: &mut SliceHeap<'_>, space: &mut [u8]) -> usize {
        let n = space.len().min(usize::try_from(self.len()).unwrap_or(usize::MAX));
        let space = &mut space[..n];
        match self {
            Self::Pattern { at, .. } => {
                pattern::fill(space, *at);
                *at += n as u64;
            }
            Self::Value { block, at, .. } => {
                let from = *at as usize;
                let copied = heap.with(|heap| {
                    let block = Block::from_offset(*block).ok_or(HeapError::NotABlock { offset: 0 })?;
                    let bytes = heap.bytes(block)?.get(from..from + n);
                    space.copy_from_slice(bytes.ok_or(HeapError::Corrupt { offset: block.offset() })?);
                    Ok(())
                });
                // The length was promised: a damaged heap sends zeros rather than break the framing.
                if copied.is_err() {
                    space.fill(0);
                }
                *at += n as u32;
            }
        }
        n
    }
}
