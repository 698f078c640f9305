//! The session's heap, made when it is first needed: a session without values has none, and its pages are never touched.

use escape_arena::{Heap, HeapError};

/// The bytes of the slot's heap, and what of them is in use.
pub(crate) struct SliceHeap<'a> {
    bytes: &'a mut [u8],
    /// Bytes that are state; 0 = not formatted. Lies in the session's state.
    extent: &'a mut u32,
}

impl<'a> SliceHeap<'a> {
    pub(crate) fn new(bytes: &'a mut [u8], extent: &'a mut u32) -> Self {
        Self { bytes, extent }
    }

    /// Runs `f` on the heap and notes its extent.
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&mut Heap<'_>) -> Result<R, HeapError>) -> Result<R, HeapError> {
        let mut heap = if *self.extent == 0 { Heap::format(self.bytes)? } else { Heap::attach(self.bytes)? };
        let r = f(&mut heap);
        *self.extent = u32::try_from(heap.extent()).unwrap_or(u32::MAX);
        r
    }
}
