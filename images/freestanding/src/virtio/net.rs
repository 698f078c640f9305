//! The network device (virtio 1.2, section 5.1): one receive queue, one transmit queue, no offloads.
//!
//! Checksum offloads are left out on purpose: a held frame may be released, replayed or mirrored on another node, and
//! must be complete as it lies in the ring.

use super::buffers::{BUFFER_BYTES, Buffers};
use super::error::VirtioError;
use super::mmio::{F_EVENT_IDX, F_VERSION_1, Kick, Mmio};
use super::queue::{QUEUE_SIZE, Queue};
use escape_abi::layout::{MMIO_BASE, MMIO_STRIDE, device};

/// Bytes of the header before each frame (`virtio_net_hdr_v1`).
pub const HEADER_BYTES: usize = 12;
/// Longest Ethernet frame that fits a buffer.
pub const FRAME_BYTES_MAX: usize = BUFFER_BYTES - HEADER_BYTES;
/// VIRTIO_NET_F_MAC.
const F_MAC: u64 = 1 << 5;
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;

/// Starts the network device: receiver and transmitter.
///
/// # Errors
/// See [`VirtioError`].
pub fn start() -> Result<(Receiver, Transmitter), VirtioError> {
    let registers = (MMIO_BASE + device::NET * MMIO_STRIDE) as *mut u32;
    // SAFETY: the VMM's page tables map the devices' pages for ever, at the addresses of the layout.
    let mmio = unsafe { Mmio::find(registers, 1)? };
    let agreed = mmio.negotiate(F_VERSION_1, F_MAC | F_EVENT_IDX)?;
    let event_idx = agreed & F_EVENT_IDX != 0;
    let (receive, transmit) = (mmio.queue(RECEIVE, event_idx)?, mmio.queue(TRANSMIT, event_idx)?);
    let mut receiver = Receiver::new(mmio.kick(RECEIVE), receive)?;
    let transmitter = Transmitter::new(mmio.kick(TRANSMIT), transmit)?;
    mmio.start();
    receiver.give_back();
    Ok((receiver, transmitter))
}

/// The receive queue. All its buffers belong to the device but the one that is being looked at.
pub struct Receiver {
    kick: Kick,
    queue: Queue,
    buffers: Buffers,
    /// The buffer whose frame the caller looks at. Kept here so that it comes back even if the caller dies over it.
    in_hand: Option<u16>,
    nonsense: u64,
}

impl Receiver {
    fn new(kick: Kick, mut queue: Queue) -> Result<Self, VirtioError> {
        let buffers = Buffers::new().ok_or(VirtioError::Queue(RECEIVE, 0))?;
        for id in 0..queue.size() {
            queue.describe(id, buffers.address(id), BUFFER_BYTES as u32, true);
            queue.post(id);
        }
        Ok(Self { kick, queue, buffers, in_hand: None, nonsense: 0 })
    }

    /// Frames wait.
    pub fn has_frames(&self) -> bool {
        self.queue.has_used()
    }

    /// The next Ethernet frame. The one before goes back to the device (shown by [`Receiver::give_back`]). Returned
    /// buffers that make no sense are counted and skipped.
    pub fn next_frame(&mut self) -> Option<&[u8]> {
        self.release();
        let (id, len) = loop {
            let (id, len) = self.queue.take_used()?;
            let len = len as usize;
            if id >= self.queue.size() {
                self.nonsense += 1;
            } else if (HEADER_BYTES..=BUFFER_BYTES).contains(&len) {
                break (id, len);
            } else {
                self.nonsense += 1;
                self.queue.post(id);
            }
        };
        self.in_hand = Some(id);
        self.buffers.read(id, len).get(HEADER_BYTES..)
    }

    /// Shows the device the buffers that it gets back, and tells it if it wants to know. Interrupts stay off.
    pub fn give_back(&mut self) {
        self.release();
        self.queue.want_interrupts(false);
        if self.queue.publish() && self.queue.needs_kick() {
            self.kick.ring();
        }
    }

    /// Asks for an interrupt at the next frame, or for none; see [`Queue::want_interrupts`].
    pub fn want_interrupts(&mut self, wanted: bool) {
        self.queue.want_interrupts(wanted);
    }

    /// Buffers so far that the device returned with an impossible id or length.
    pub fn nonsense(&self) -> u64 {
        self.nonsense
    }

    fn release(&mut self) {
        if let Some(id) = self.in_hand.take() {
            self.queue.post(id);
        }
    }
}

/// The transmit queue. Bound: the queue's size; when it is full, frames are refused, and TCP sends them again.
pub struct Transmitter {
    kick: Kick,
    queue: Queue,
    buffers: Buffers,
    /// Ids of the buffers that the device does not have, the first `free_len`.
    free: [u16; QUEUE_SIZE as usize],
    free_len: usize,
    nonsense: u64,
}

impl Transmitter {
    fn new(kick: Kick, mut queue: Queue) -> Result<Self, VirtioError> {
        let buffers = Buffers::new().ok_or(VirtioError::Queue(TRANSMIT, 0))?;
        let mut free = [0; QUEUE_SIZE as usize];
        for id in 0..queue.size() {
            // The header stays zero: no offload, no segmentation, `num_buffers` 0 as for every transmitted frame.
            queue.describe(id, buffers.address(id), 0, false);
            free[usize::from(id)] = id;
        }
        let free_len = usize::from(queue.size());
        Ok(Self { kick, queue, buffers, free, free_len, nonsense: 0 })
    }

    /// Puts a frame on the ring without showing it; false if it is too long or the ring is full of frames that the device
    /// has not taken. Should the ring be full of frames of this very turn, they are shown, so that room comes.
    pub fn transmit(&mut self, frame: &[u8]) -> bool {
        if frame.len() > FRAME_BYTES_MAX {
            return false;
        }
        let Some(id) = self.free_buffer() else { return false };
        let Some(room) = self.buffers.write(id).get_mut(HEADER_BYTES..HEADER_BYTES + frame.len()) else { return false };
        room.copy_from_slice(frame);
        self.queue.set_len(id, (HEADER_BYTES + frame.len()) as u32);
        self.queue.post(id);
        true
    }

    /// Shows the frames put on the ring. True if there were any.
    pub fn publish(&mut self) -> bool {
        self.queue.publish()
    }

    /// Tells the device of the frames published since the last call, if it wants to know. True if it was told.
    pub fn kick(&mut self) -> bool {
        let wanted = self.queue.needs_kick();
        if wanted {
            self.kick.ring();
        }
        wanted
    }

    /// Buffers so far that the device returned with an impossible id.
    pub fn nonsense(&self) -> u64 {
        self.nonsense
    }

    fn free_buffer(&mut self) -> Option<u16> {
        if self.free_len == 0 {
            self.reclaim();
        }
        if self.free_len == 0 && self.publish() {
            // Showing frames while their slice is still referenced is safe, only slower: the VMM then holds them until
            // the reference is given back.
            self.kick();
            self.reclaim();
        }
        self.free_len = self.free_len.checked_sub(1)?;
        self.free.get(self.free_len).copied()
    }

    /// Takes back what the device has sent.
    fn reclaim(&mut self) {
        while let Some((id, _)) = self.queue.take_used() {
            match self.free.get_mut(self.free_len) {
                Some(place) if id < self.queue.size() => {
                    *place = id;
                    self.free_len += 1;
                }
                _ => self.nonsense += 1,
            }
        }
        self.queue.want_interrupts(false);
    }
}
