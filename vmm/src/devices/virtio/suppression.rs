//! Whether the driver wants an interrupt for the buffers just used (virtio 1.2, sections 2.7.7 and 2.7.10).

use std::sync::atomic::{Ordering, fence};
use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Error, Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// To be asked once per batch, after at least one buffer was added to the used ring.
///
/// `virtio-queue` knows the event index but not the flag, so the flag is read here.
pub fn wants_interrupt(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Error> {
    if queue.event_idx_enabled() {
        return queue.needs_notification(memory);
    }
    // The used index is written before the flag is read; the driver does the reverse.
    fence(Ordering::SeqCst);
    let flags: u16 = memory.load(GuestAddress(queue.avail_ring()), Ordering::Relaxed).map_err(Error::GuestMemory)?;
    Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
}
