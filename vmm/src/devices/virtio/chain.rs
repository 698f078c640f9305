//! Copies between host buffers and the descriptor chains of a driver that may lie (virtio 1.2, section 2.7.5).
//!
//! A chain is walked once, by `virtio-queue`'s iterator, over a bounded number of descriptors. The iterator simply ends
//! where a chain makes no sense; a chain that ended although its last descriptor named a successor is therefore an
//! error.

use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestMemoryMmap};

/// Most descriptors of one chain: a frame needs one to three, Linux uses up to 19.
pub const DESCRIPTORS_PER_CHAIN_MAX: usize = 32;

/// Why a chain was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// It has no bytes, or its first descriptor does not exist.
    #[error("empty chain")]
    Empty,
    /// It loops, leaves the table, is longer than allowed or has a descriptor that cannot be read.
    #[error("chain without a proper end")]
    Endless,
    /// A descriptor points the wrong way: writable where the device reads, or the reverse.
    #[error("descriptor of the wrong direction")]
    Direction,
    /// Its buffers hold more than the device takes.
    #[error("chain longer than the device's largest buffer")]
    TooLong,
    /// Its buffers cannot hold what the device has to write.
    #[error("chain too short")]
    TooShort,
    /// A buffer does not lie in RAM.
    #[error("buffer outside RAM")]
    Address,
}

/// A chain in RAM.
pub type Chain<'m> = DescriptorChain<&'m GuestMemoryMmap>;

/// What to leave behind in a queue that has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenEmpty {
    /// The driver notifies its next chain.
    Notify,
    /// The driver stays quiet: the caller will look again by itself.
    Quiet,
}

/// Times an index may change between two looks at it before it is taken for nonsense.
const LOOKS_MAX: usize = 8;

/// Takes the next chain off a queue. An error means that the queue is broken: its available index makes no sense.
///
/// The index is read with acquire order, so what the driver wrote before it is visible.
pub fn next_chain<'m>(
    queue: &mut Queue,
    memory: &'m GuestMemoryMmap,
    when_empty: WhenEmpty,
) -> Result<Option<Chain<'m>>, Error> {
    for _ in 0..LOOKS_MAX {
        if let Some(chain) = queue.iter(memory)?.next() {
            return Ok(Some(chain));
        }
        if when_empty == WhenEmpty::Quiet {
            queue.disable_notification(memory)?;
            return Ok(None);
        }
        // Ask to be notified, then look again: a chain may have come between look and request.
        if !queue.enable_notification(memory)? {
            return Ok(None);
        }
    }
    Err(Error::InvalidAvailRingIndex)
}

/// Copies a device-readable chain into `into`; returns how many bytes it had.
pub fn read_chain(chain: Chain<'_>, memory: &GuestMemoryMmap, into: &mut [u8]) -> Result<usize, ChainError> {
    let mut filled = 0;
    walk(chain, |descriptor| {
        if descriptor.is_write_only() {
            return Err(ChainError::Direction);
        }
        let len = usize::try_from(descriptor.len()).map_err(|_| ChainError::TooLong)?;
        let end = filled + len;
        let part = into.get_mut(filled..end).ok_or(ChainError::TooLong)?;
        memory.read_slice(part, descriptor.addr()).map_err(|_| ChainError::Address)?;
        filled = end;
        Ok(true)
    })?;
    if filled == 0 { Err(ChainError::Empty) } else { Ok(filled) }
}

/// Copies `head` and then `body` into a device-writable chain, which may be longer than both.
pub fn write_chain(chain: Chain<'_>, memory: &GuestMemoryMmap, head: &[u8], body: &[u8]) -> Result<(), ChainError> {
    let mut parts = [head, body];
    let mut any = false;
    walk(chain, |descriptor| {
        if !descriptor.is_write_only() {
            return Err(ChainError::Direction);
        }
        any = true;
        let mut room = usize::try_from(descriptor.len()).map_err(|_| ChainError::TooLong)?;
        let mut at = descriptor.addr();
        for part in &mut parts {
            let (now, later) = part.split_at(part.len().min(room));
            memory.write_slice(now, at).map_err(|_| ChainError::Address)?;
            at = at.checked_add(now.len() as u64).ok_or(ChainError::Address)?;
            room -= now.len();
            *part = later;
        }
        Ok(parts.iter().any(|p| !p.is_empty()))
    })?;
    match parts.iter().all(|p| p.is_empty()) {
        true => Ok(()),
        false if any => Err(ChainError::TooShort),
        false => Err(ChainError::Empty),
    }
}

/// Visits descriptors until the chain ends properly or `visit` says that it has seen enough.
fn walk(
    chain: Chain<'_>,
    mut visit: impl FnMut(&virtio_queue::desc::split::Descriptor) -> Result<bool, ChainError>,
) -> Result<(), ChainError> {
    let mut expects_more = true;
    for descriptor in chain.take(DESCRIPTORS_PER_CHAIN_MAX) {
        expects_more = descriptor.has_next();
        if !visit(&descriptor)? {
            return Ok(());
        }
    }
    if expects_more { Err(ChainError::Endless) } else { Ok(()) }
}
