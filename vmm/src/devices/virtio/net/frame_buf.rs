//! A buffer for one frame.

use super::vnet_header::VNET_HEADER_BYTES;
use std::ops::Deref;

/// Longest frame that is one packet: Ethernet with one VLAN tag and 1500 bytes of payload, behind its virtio-net header.
pub const FRAME_BYTES_MAX: usize = VNET_HEADER_BYTES + 14 + 4 + 1500;
/// Longest frame of a guest that leaves segmentation to the tap (`VIRTIO_NET_F_HOST_TSO4`): the longest IPv4 packet.
pub const SEGMENTED_BYTES_MAX: usize = VNET_HEADER_BYTES + 14 + 65_535;
/// Shortest frame: both headers.
pub const FRAME_BYTES_MIN: usize = VNET_HEADER_BYTES + 14;

/// One frame: 12 bytes of virtio-net header and an Ethernet frame. Allocated once, filled again and again.
#[derive(Clone, Debug)]
pub struct FrameBuf {
    bytes: Box<[u8; SEGMENTED_BYTES_MAX + 1]>,
    len: usize,
}

impl FrameBuf {
    /// An empty buffer.
    pub fn new() -> Self {
        Self { bytes: Box::new([0; SEGMENTED_BYTES_MAX + 1]), len: 0 }
    }

    /// Lets `fill` write into the buffer and say how much it wrote. The room is one byte more than `bytes_max`, so that a frame
    /// that is too long shows.
    pub(super) fn fill<E>(
        &mut self,
        bytes_max: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.len = 0;
        let room = self.bytes.get_mut(..=bytes_max.min(SEGMENTED_BYTES_MAX)).unwrap_or(&mut []);
        let room_bytes = room.len();
        self.len = fill(room)?.min(room_bytes);
        Ok(self.len)
    }

    /// Copies a frame in; `false` if it is too long.
    pub fn copy_from(&mut self, frame: &[u8]) -> bool {
        let Some(room) = self.bytes.get_mut(..frame.len()) else { return false };
        room.copy_from_slice(frame);
        self.len = frame.len();
        frame.len() <= FRAME_BYTES_MAX
    }

    /// The frame, to be changed in place.
    pub(super) fn frame_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or(&mut [])
    }
}

impl Default for FrameBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for FrameBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}
