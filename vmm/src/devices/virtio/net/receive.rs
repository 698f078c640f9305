//! One step of the receive queue (virtio 1.2, section 5.1.6.3).

use crate::devices::virtio::chain::{WhenEmpty, next_chain, write_chain};
use virtio_queue::{Error, Queue, QueueT};
use vm_memory::GuestMemoryMmap;

/// Unusable buffers skipped for one frame.
const MALFORMED_PER_FRAME_MAX: u64 = 16;

/// What became of the frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Receive {
    /// It lies in a buffer of the driver.
    Done,
    /// The driver has no buffer for it, and will notify when it has.
    NoBuffer,
}

/// Puts one frame into the next buffer that can take it. Buffers that make no sense or are too small are returned
/// empty and counted in `malformed`. An error means that the queue itself is broken.
pub fn receive(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    header: &[u8],
    ethernet: &[u8],
    malformed: &mut u64,
) -> Result<Receive, Error> {
    while *malformed < MALFORMED_PER_FRAME_MAX {
        let Some(chain) = next_chain(queue, memory, WhenEmpty::Notify)? else { return Ok(Receive::NoBuffer) };
        let head = chain.head_index();
        let written = write_chain(chain, memory, header, ethernet);
        let len = header.len() + ethernet.len();
        let used = if written.is_ok() { u32::try_from(len).unwrap_or(0) } else { 0 };
        queue.add_used(memory, head, used)?;
        if written.is_ok() {
            queue.disable_notification(memory)?;
            return Ok(Receive::Done);
        }
        *malformed += 1;
    }
    Ok(Receive::NoBuffer)
}
