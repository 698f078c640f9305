//! Why an image operation or a checkpoint is refused.

use super::delta::BodyError;
use super::slice_id::SliceId;
use super::slot_image::Role;
use escape_abi::layout::SLOT_SIZE;
use thiserror::Error;

/// An operation on an image that makes no sense.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The address space for the images cannot be reserved.
    #[error("cannot reserve address space for {n_slots} slot images of {SLOT_SIZE} bytes")]
    Map {
        /// Slots asked for.
        n_slots: u32,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The slot is not of this cell.
    #[error("slice {slice}: no such slot")]
    NoSuchSlot {
        /// The slice named.
        slice: SliceId,
    },
    /// The slot has an image of another slice.
    #[error("slice {slice}: its slot holds an image of slice {present}")]
    Occupied {
        /// The slice named.
        slice: SliceId,
        /// The slice that has the slot.
        present: SliceId,
    },
    /// There is no image of that slice in that role.
    #[error("slice {slice}: no image as {role:?}")]
    Missing {
        /// The slice named.
        slice: SliceId,
        /// The role wanted.
        role: Role,
    },
    /// The image has had no checkpoint yet.
    #[error("slice {slice}: its image has no checkpoint yet")]
    Empty {
        /// The slice.
        slice: SliceId,
    },
    /// The arena does not take the slice's bytes: its lease is not mapped here.
    #[error("slice {slice}: its slot is not mapped in this guest")]
    NotMapped {
        /// The slice.
        slice: SliceId,
    },
}

/// A checkpoint that was not applied. The image is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// No standby image of that slice: its CREATE is missing, or it was closed.
    #[error("slice {slice}: no standby image")]
    Unknown {
        /// The slice named.
        slice: SliceId,
    },
    /// A checkpoint before this one is missing: ask for a full copy.
    #[error("slice {slice}: checkpoint {number} builds on {base}, here is {have}")]
    Gap {
        /// The slice.
        slice: SliceId,
        /// Number of the refused checkpoint.
        number: u64,
        /// What it builds on.
        base: u64,
        /// Last checkpoint applied.
        have: u64,
    },
    /// The checkpoint is not newer than what was applied.
    #[error("slice {slice}: checkpoint {number} is older than {have}")]
    Stale {
        /// The slice.
        slice: SliceId,
        /// Number of the refused checkpoint.
        number: u64,
        /// Last checkpoint applied.
        have: u64,
    },
    /// The body is not the one that was hashed, or continues another history.
    #[error("slice {slice}: hash of checkpoint {number} does not match")]
    Hash {
        /// The slice.
        slice: SliceId,
        /// Number of the refused checkpoint.
        number: u64,
    },
    /// The body is malformed.
    #[error("slice {slice}: checkpoint {number}: {cause}")]
    Body {
        /// The slice.
        slice: SliceId,
        /// Number of the refused checkpoint.
        number: u64,
        /// What is wrong.
        cause: BodyError,
    },
    /// The body speaks of another incarnation, goes back in generation, or leaves a live line that was never sent.
    #[error("slice {slice}: checkpoint {number} contradicts its image: {what}")]
    Contradiction {
        /// The slice.
        slice: SliceId,
        /// Number of the refused checkpoint.
        number: u64,
        /// What contradicts.
        what: &'static str,
    },
}
