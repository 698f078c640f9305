//! One step of the transmit queue (virtio 1.2, section 5.1.6.2).

use super::frame_buf::FrameBuf;
use crate::devices::virtio::chain::{ChainError, WhenEmpty, next_chain, read_chain};
use virtio_queue::{Error, Queue, QueueT};
use vm_memory::GuestMemoryMmap;

/// What the queue had.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A frame of so many bytes, now in the buffer.
    Frame(usize),
    /// A chain that is no frame; returned to the driver.
    Malformed(ChainError),
    /// Nothing. Whether the driver notifies the next one is as `when_empty` says.
    Nothing,
}

/// Takes one chain off the queue, copies it, at most `bytes_max` of it, and returns it to the driver. An error means that the queue itself is
/// broken: its indices make no sense or the driver's head does not exist.
pub fn transmit(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    buf: &mut FrameBuf,
    bytes_max: usize,
    when_empty: WhenEmpty,
) -> Result<Transmit, Error> {
    let Some(chain) = next_chain(queue, memory, when_empty)? else { return Ok(Transmit::Nothing) };
    let head = chain.head_index();
    let copied = buf.fill(bytes_max, |room| read_chain(chain, memory, room));
    queue.add_used(memory, head, 0)?;
    Ok(match copied {
        Ok(len) if len > bytes_max => Transmit::Malformed(ChainError::TooLong),
        Ok(len) => Transmit::Frame(len),
        Err(error) => Transmit::Malformed(error),
    })
}
