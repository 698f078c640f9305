//! One step of the transmit queue (virtio 1.2, section 5.1.6.2).

use super::frame_buf::FrameBuf;
use crate::devices::virtio::chain::{ChainError, read_chain};
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;

/// What the queue had.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A frame of so many bytes, now in the buffer.
    Frame(usize),
    /// A chain that is no frame; returned to the driver.
    Malformed(ChainError),
    /// Nothing. Unless busy, the driver will notify the next one.
    Nothing,
}

/// Takes one chain off the queue, copies it and returns it to the driver. An error means that the queue itself is
/// broken: its indices make no sense or the driver's head does not exist.
pub fn transmit(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    buf: &mut FrameBuf,
    busy: bool,
) -> Result<Transmit, Error> {
    let chain = loop {
        if let Some(chain) = queue.iter(memory)?.next() {
            break chain;
        }
        if busy {
            queue.disable_notification(memory)?;
            return Ok(Transmit::Nothing);
        }
        // Asks for a notification, and looks again: a frame may have come between look and request.
        if !queue.enable_notification(memory)? {
            return Ok(Transmit::Nothing);
        }
    };
    let head = chain.head_index();
    let copied = buf.fill(|room| read_chain(chain, memory, room));
    queue.add_used(memory, head, 0)?;
    Ok(match copied {
        Ok(len) if len > super::frame_buf::FRAME_BYTES_MAX => Transmit::Malformed(ChainError::TooLong),
        Ok(len) => Transmit::Frame(len),
        Err(error) => Transmit::Malformed(error),
    })
}
