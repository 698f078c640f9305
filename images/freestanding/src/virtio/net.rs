//! The network device (virtio 1.2, section 5.1): one receive queue, one transmit queue.
//!
//! Received frames may come with unfinished TCP checksums (VIRTIO_NET_F_GUEST_CSUM), which spares two passes over each.
//! Transmitted frames are complete: they may be held, and released by another node than the one that took them.

use super::buffers::{BUFFER_BYTES, Buffers};
use super::checksum;
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
/// VIRTIO_NET_F_GUEST_CSUM: the driver takes frames with unfinished checksums.
const F_GUEST_CSUM: u64 = 1 << 1;
/// Header flags VIRTIO_NET_HDR_F_NEEDS_CSUM and VIRTIO_NET_HDR_F_DATA_VALID: the device vouches for the TCP checksum.
const CHECKSUM_IS_DONE: u8 = 1 | 2;
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
    let agreed = mmio.negotiate(F_VERSION_1, F_MAC | F_GUEST_CSUM | F_EVENT_IDX)?;
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
    wrong_checksums: u64,
}

impl Receiver {
    fn new(kick: Kick, mut queue: Queue) -> Result<Self, VirtioError> {
        let buffers = Buffers::new().ok_or(VirtioError::Queue(RECEIVE, 0))?;
        for id in 0..queue.size() {
            queue.describe(id, buffers.address(id), BUFFER_BYTES as u32, true);
            queue.post(id);
        }
        Ok(Self { kick, queue, buffers, in_hand: None, nonsense: 0, wrong_checksums: 0 })
    }

    /// Frames wait.
    pub fn has_frames(&self) -> bool {
        self.queue.has_used()
    }

    /// The next Ethernet frame whose checksums are right. The one before goes back to the device (shown by
    /// [`Receiver::give_back`]). Frames with wrong checksums, and returned buffers that make no sense, are counted and
    /// skipped.
    pub fn next_frame(&mut self) -> Option<&[u8]> {
        self.release();
        let (id, len) = loop {
            let (id, len) = self.queue.take_used()?;
            let len = len as usize;
            if id >= self.queue.size() {
                self.nonsense += 1;
            } else if self.is_acceptable(id, len) {
                break (id, len);
            } else {
                self.queue.post(id);
            }
        };
        self.in_hand = Some(id);
        self.buffers.read(id, len).get(HEADER_BYTES..)
    }

    /// Looks at a returned buffer, and counts what is wrong with it.
    fn is_acceptable(&mut self, id: u16, len: usize) -> bool {
        if !(HEADER_BYTES..=BUFFER_BYTES).contains(&len) {
            self.nonsense += 1;
            return false;
        }
        let (header, frame) = self.buffers.read(id, len).split_at(HEADER_BYTES);
        let tcp_is_done = header[0] & CHECKSUM_IS_DONE != 0;
        let right = checksum::is_right(frame, tcp_is_done);
        self.wrong_checksums += u64::from(!right);
        right
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

    /// Frames so far with a wrong checksum.
    pub fn wrong_checksums(&self) -> u64 {
        self.wrong_checksums
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::virtio::test_device::Device;
    use core::sync::atomic::{AtomicU32, Ordering};

    const SIZE: u16 = 8;
    /// What the cell holds while nobody has rung.
    const SILENT: u32 = u32::MAX;

    fn bell() -> &'static AtomicU32 {
        Box::leak(Box::new(AtomicU32::new(SILENT)))
    }

    fn transmitter() -> (Transmitter, Device, &'static AtomicU32) {
        let (queue, bell) = (Queue::new(SIZE, false).unwrap(), bell());
        let device = Device::of(&queue);
        (Transmitter::new(Kick::into_cell(bell, TRANSMIT), queue).unwrap(), device, bell)
    }

    fn receiver() -> (Receiver, Device) {
        let queue = Queue::new(SIZE, false).unwrap();
        let device = Device::of(&queue);
        let mut receiver = Receiver::new(Kick::into_cell(bell(), RECEIVE), queue).unwrap();
        receiver.give_back();
        (receiver, device)
    }

    /// The device writes a frame into the next buffer, and says that it wrote `len` bytes.
    fn deliver(device: &mut Device, frame: &[u8], len: u32) -> u16 {
        let id = device.take().unwrap();
        let (at, room) = device.buffer(id);
        assert_eq!(room, BUFFER_BYTES);
        // SAFETY: the driver gave the buffer, and the frame fits.
        unsafe { at.add(HEADER_BYTES).copy_from_nonoverlapping(frame.as_ptr(), frame.len()) };
        device.give_back(u32::from(id), len);
        id
    }

    #[test]
    fn frames_are_shown_together_behind_an_empty_header() {
        let (mut transmitter, mut device, bell) = transmitter();
        assert!(transmitter.transmit(&[1; 60]) && transmitter.transmit(&[2; 1514]));
        assert_eq!(device.take(), None);
        assert!(transmitter.publish());
        assert_eq!(bell.load(Ordering::Relaxed), SILENT, "one kick per turn, not per frame");
        assert!(transmitter.kick() && !transmitter.kick());
        assert_eq!(bell.load(Ordering::Relaxed), TRANSMIT);
        for (byte, len) in [(1, 60), (2, 1514)] {
            let (at, bytes) = device.take().map(|id| device.buffer(id)).unwrap();
            // SAFETY: the driver's buffer, as described.
            let sent = unsafe { core::slice::from_raw_parts(at, bytes) };
            assert_eq!(sent[..HEADER_BYTES], [0; HEADER_BYTES]);
            assert_eq!(sent[HEADER_BYTES..], vec![byte; len]);
        }
    }

    #[test]
    fn a_full_ring_is_shown_and_refuses_more() {
        let (mut transmitter, mut device, bell) = transmitter();
        for _ in 0..SIZE {
            assert!(transmitter.transmit(&[3; 64]));
        }
        assert!(!transmitter.transmit(&[3; 64]));
        assert_eq!(bell.load(Ordering::Relaxed), TRANSMIT, "the device is told to make room");
        let id = device.take().unwrap();
        device.give_back(u32::from(id), 0);
        assert!(transmitter.transmit(&[3; 64]));
        assert!(!transmitter.transmit(&[3; 64]));
        assert!(!transmitter.transmit(&[0; FRAME_BYTES_MAX + 1]), "too long");
    }

    #[test]
    fn nonsense_from_the_device_gives_no_buffer_away() {
        let (mut transmitter, device, _) = transmitter();
        for id in [u32::from(SIZE), u32::MAX] {
            device.give_back(id, 0);
        }
        for _ in 0..SIZE {
            assert!(transmitter.transmit(&[4; 64]));
        }
        assert!(!transmitter.transmit(&[4; 64]));
        assert_eq!(transmitter.nonsense(), 2);
    }

    #[test]
    fn received_frames_come_without_header_and_their_buffers_go_back() {
        let (mut receiver, mut device) = receiver();
        for round in 0..3 * u32::from(SIZE) {
            let frame = round.to_le_bytes();
            deliver(&mut device, &frame, (HEADER_BYTES + 4) as u32);
            assert_eq!(receiver.next_frame(), Some(&frame[..]));
            assert_eq!(receiver.next_frame(), None);
            receiver.give_back();
        }
        assert_eq!(receiver.nonsense(), 0);
    }

    #[test]
    fn impossible_lengths_and_ids_are_skipped() {
        let (mut receiver, mut device) = receiver();
        for len in [0, 11, BUFFER_BYTES as u32 + 1, u32::MAX] {
            deliver(&mut device, b"?", len);
        }
        device.give_back(999, 60);
        deliver(&mut device, b"good", 16);
        assert_eq!(receiver.next_frame(), Some(&b"good"[..]));
        assert_eq!(receiver.nonsense(), 5);
        receiver.give_back();
        // All buffers but none lost: the device can take a whole ring of them.
        assert_eq!((0..=SIZE).filter(|_| device.take().is_some()).count(), usize::from(SIZE));
    }

    #[test]
    fn a_frame_in_hand_when_the_turn_died_goes_back_with_the_next() {
        let (mut receiver, mut device) = receiver();
        let first = deliver(&mut device, b"dies", 16);
        assert!(receiver.next_frame().is_some());
        // The main loop starts anew without having given anything back.
        deliver(&mut device, b"next", 16);
        assert_eq!(receiver.next_frame(), Some(&b"next"[..]));
        receiver.give_back();
        assert!((0..SIZE).filter_map(|_| device.take()).any(|id| id == first));
    }
}
