//! What the Slice API refuses.

use crate::{CapsuleId, SliceKey};

/// Why an operation of the Slice API failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// The host holds the slot for a capture: no new reference until it lets go. Try again on the next turn.
    #[error("slot {slot} is held by the host")]
    Held {
        /// Slot.
        slot: u32,
    },
    /// References are still out: the slice cannot be unplugged yet.
    #[error("slice {slice} has {refs} references")]
    Referenced {
        /// The slice.
        slice: SliceKey,
        /// References held.
        refs: u16,
    },
    /// A record or slot has no room for one more.
    #[error("slice {slice}: more than {max} {what}")]
    TooMany {
        /// The slice.
        slice: SliceKey,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// A capsule that is registered already.
    #[error("capsule {id} is registered already")]
    Registered {
        /// The capsule.
        id: CapsuleId,
    },
    /// A capsule that is not registered, or of another slice.
    #[error("capsule {id} is unknown here")]
    Unknown {
        /// The capsule.
        id: CapsuleId,
    },
    /// Other capsules depend on it, or it is part of a slice that exists.
    #[error("capsule {id} is in use")]
    InUse {
        /// The capsule.
        id: CapsuleId,
    },
    /// The dependency would close a circle.
    #[error("capsule {id} would depend on itself")]
    Circle {
        /// The capsule.
        id: CapsuleId,
    },
    /// A region that is empty, leaves the slot, or overlaps another.
    #[error("capsule {id}: region {offset:#x}+{len:#x} is empty, outside the slot, or overlaps another")]
    BadRegion {
        /// The capsule.
        id: CapsuleId,
        /// First byte in the slot.
        offset: u32,
        /// Length, bytes.
        len: u32,
    },
    /// The record in the slot contradicts itself or is of another slice.
    #[error("slot {slot}: no sound slice record for incarnation {incarnation}")]
    BadRecord {
        /// Slot.
        slot: u32,
        /// The incarnation expected.
        incarnation: u64,
    },
    /// No layer of this guest has this number.
    #[error("capsule {id}: this guest has no such layer")]
    NoLayer {
        /// The capsule.
        id: CapsuleId,
    },
    /// What the capsule needs here is taken (for a connection: its addresses and ports), or it is plugged already.
    #[error("capsule {id}: its place here is taken")]
    Taken {
        /// The capsule.
        id: CapsuleId,
    },
    /// The layer does not accept the capsule's state: another image, or damaged.
    #[error("capsule {id}: state refused: {why}")]
    Refused {
        /// The capsule.
        id: CapsuleId,
        /// In the layer's words.
        why: &'static str,
    },
    /// The buffer given is too small for what the layer keeps outside the slot, or ends early at plug.
    #[error("capsule {id}: buffer too short")]
    ShortBuffer {
        /// The capsule.
        id: CapsuleId,
    },
}
