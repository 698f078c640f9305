//! The interface that every layer with capsules implements (paper, figure 3: `CapsuleList`).

use crate::{CapsuleId, LayerId, SliceError};

/// What a layer itself calls one of its capsules: valid in this guest only, as a file descriptor or pointer would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CapsuleHandle(pub u64);

/// A layer's capsules.
pub trait CapsuleList {
    /// The layer.
    fn layer(&self) -> LayerId;

    /// Canonicalization: the id of the capsule behind a handle; `None` if there is no such capsule here.
    fn get_id(&self, handle: CapsuleHandle) -> Option<CapsuleId>;

    /// The inverse of [`Self::get_id`].
    fn get_handle(&self, id: CapsuleId) -> Option<CapsuleHandle>;

    /// Detaches the capsule. Its declared regions stay in the slot as they are; what the layer keeps elsewhere is written to
    /// `buffer` (a layer whose state is all in the slot writes nothing). An empty buffer says that nobody wants it. Returns the bytes written.
    ///
    /// # Errors
    /// [`SliceError::Unknown`], [`SliceError::ShortBuffer`]; the capsule is attached as before.
    fn unplug_capsule(&mut self, id: CapsuleId, buffer: &mut [u8]) -> Result<usize, SliceError>;

    /// Attaches a capsule whose regions are in the slot already; `buffer` is what [`Self::unplug_capsule`] wrote, or empty
    /// when the slice was not unplugged but its machine lost.
    ///
    /// # Errors
    /// [`SliceError::Taken`], [`SliceError::Refused`], [`SliceError::ShortBuffer`]; nothing is attached.
    fn plug_capsule(&mut self, id: CapsuleId, buffer: &[u8]) -> Result<CapsuleHandle, SliceError>;

    /// Takes a reference: until it is put back the slice is in motion, and neither captured nor unplugged. Never hold one across a wait.
    ///
    /// # Errors
    /// [`SliceError::Held`]: try again on the next turn. [`SliceError::Unknown`].
    fn get_ref(&self, handle: CapsuleHandle) -> Result<(), SliceError>;

    /// Puts a reference back. With the last one the slice's new generation is published.
    fn put_ref(&self, handle: CapsuleHandle);
}
