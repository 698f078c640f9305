//! The slot word: `generation:48 | refs:16`.

/// One slot's word in the dense table of the control pages.
///
/// `get_ref` = atomic +1, then read the slot's hold: if set, undo and defer the slice. `put_ref` = compare-and-swap
/// refs − 1, and generation + 1 when refs becomes 0 (release). The slot is quiescent exactly when refs is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotWord(pub u64);

impl SlotWord {
    const REFS: u64 = 0xffff;

    /// A word of a generation (48 bits) and a reference count.
    pub const fn new(generation: u64, refs: u16) -> Self {
        Self(generation << 16 | refs as u64)
    }
    /// References held now.
    pub const fn refs(self) -> u16 {
        (self.0 & Self::REFS) as u16
    }
    /// Count of completed reference intervals.
    pub const fn generation(self) -> u64 {
        self.0 >> 16
    }
    /// No reference is held: the slot's bytes are a consistent cut.
    pub const fn quiescent(self) -> bool {
        self.refs() == 0
    }
    /// The generation whose commit covers a frame that was on the ring when this word was read.
    pub const fn need(self) -> u64 {
        if self.quiescent() { self.generation() } else { self.generation() + 1 }
    }
    /// After `put_ref` of the last reference.
    pub const fn released(self) -> Self {
        Self::new(self.generation() + 1, 0)
    }
}
