//! Names of slices, layers and capsules.

/// The slice id: a slot and its incarnation. A reused slot is another slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct SliceKey {
    /// Incarnation of the slot: generation of the lease << 32 | count within the lease.
    pub incarnation: u64,
    /// Slot of the arena.
    pub slot: u32,
}

/// A layer of the software stack; the same number names the same layer in every guest of the cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct LayerId(pub u32);

/// A capsule's id: unique in the cell, and the same wherever the capsule is plugged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct CapsuleId {
    /// The slice that it belongs to: a capsule lives in its slice's slot from its birth.
    pub slice: SliceKey,
    /// The layer whose state it is.
    pub layer: LayerId,
}

impl CapsuleId {
    /// The capsule of `slice` in `layer`.
    pub const fn new(slice: SliceKey, layer: LayerId) -> Self {
        Self { slice, layer }
    }
}

impl core::fmt::Display for SliceKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.slot, self.incarnation)
    }
}

impl core::fmt::Display for CapsuleId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/layer {}", self.slice, self.layer.0)
    }
}
