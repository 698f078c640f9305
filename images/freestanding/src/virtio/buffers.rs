//! Memory of a queue's buffers: one fixed buffer per descriptor.

use super::queue::QUEUE_SIZE;
use alloc::alloc::alloc_zeroed;
use core::alloc::Layout;
use core::ptr::NonNull;

/// Bytes of a buffer: a 12-byte header and a frame of an MTU of 1500, rounded up to half a page.
pub const BUFFER_BYTES: usize = 2048;

/// [`QUEUE_SIZE`] buffers, known by their ids. Never freed: the device may hold their addresses for ever.
pub struct Buffers {
    base: NonNull<u8>,
}

impl Buffers {
    /// Zeroed buffers; `None` without memory.
    pub fn new() -> Option<Self> {
        let layout = Layout::from_size_align(usize::from(QUEUE_SIZE) * BUFFER_BYTES, 4096).ok()?;
        // SAFETY: the layout is not of size 0.
        NonNull::new(unsafe { alloc_zeroed(layout) }).map(|base| Self { base })
    }

    /// Physical address of buffer `id`, which must be below [`QUEUE_SIZE`].
    pub fn address(&self, id: u16) -> u64 {
        self.pointer(id).as_ptr() as u64
    }

    /// The first `len` bytes (at most [`BUFFER_BYTES`]) of buffer `id`, which the device has given back.
    pub fn read(&self, id: u16, len: usize) -> &[u8] {
        // SAFETY: in range by `pointer` and `min`; the owner of this value gives a buffer to the device only while no
        // reference to it lives (both go through `&mut` of the owner), and the device leaves alone what it gave back.
        unsafe { core::slice::from_raw_parts(self.pointer(id).as_ptr(), len.min(BUFFER_BYTES)) }
    }

    /// Buffer `id`, which the device has given back or never had.
    pub fn write(&mut self, id: u16) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` excludes another reference.
        unsafe { core::slice::from_raw_parts_mut(self.pointer(id).as_ptr(), BUFFER_BYTES) }
    }

    fn pointer(&self, id: u16) -> NonNull<u8> {
        assert!(id < QUEUE_SIZE);
        // SAFETY: inside the allocation.
        unsafe { self.base.add(usize::from(id) * BUFFER_BYTES) }
    }
}
