//! The network device, with raw access to its queues.

use escape_abi::layout::{MMIO_BASE, MMIO_STRIDE, device};
use escape_freestanding::virtio::buffers::{BUFFER_BYTES, Buffers};
use escape_freestanding::virtio::mmio::{F_VERSION_1, Kick, Mmio};
use escape_freestanding::virtio::queue::Queue;

/// Bytes of the header before each frame (`virtio_net_hdr_v1`).
pub const HEADER_BYTES: usize = 12;
/// Virtio device id of a network device.
const NETWORK: u32 = 1;
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
/// Ids below are for proper frames, ids from here on for descriptors that attacks write.
pub const RAW_IDS: u16 = 128;

/// Descriptor flags (virtio 1.2, section 2.7.5).
pub mod descriptor {
    /// Another descriptor follows.
    pub const NEXT: u16 = 1;
    /// The device writes.
    pub const WRITE: u16 = 2;
    /// The buffer holds a table of descriptors.
    pub const INDIRECT: u16 = 4;
}

/// A started network device. Without EVENT_IDX and checksum offload: the plainest driver there is.
pub struct Wire {
    /// The registers.
    pub mmio: Mmio,
    /// The transmit queue.
    pub transmit: Queue,
    /// The receive queue, without buffers.
    pub receive: Queue,
    transmit_kick: Kick,
    receive_kick: Kick,
    buffers: Buffers,
    next_id: u16,
    outstanding: u16,
}

impl Wire {
    /// Finds, resets and starts the device; what an earlier start allocated is left to it.
    pub fn start() -> Option<Self> {
        let mmio = find()?;
        mmio.negotiate(F_VERSION_1, 0).ok()?;
        let (receive, transmit) = (mmio.queue(RECEIVE, false).ok()?, mmio.queue(TRANSMIT, false).ok()?);
        mmio.start();
        let (transmit_kick, receive_kick) = (mmio.kick(TRANSMIT), mmio.kick(RECEIVE));
        let buffers = Buffers::new()?;
        Some(Self { mmio, transmit, receive, transmit_kick, receive_kick, buffers, next_id: 0, outstanding: 0 })
    }

    /// Sends a frame with a clean header. Waits while the queue is full.
    pub fn send(&mut self, frame: &[u8]) {
        self.send_with_header([0; HEADER_BYTES], frame);
    }

    /// Sends a frame with this header; both are cut to a buffer's size.
    pub fn send_with_header(&mut self, header: [u8; HEADER_BYTES], frame: &[u8]) {
        let id = self.next_id;
        self.next_id = (self.next_id + 1) % RAW_IDS;
        self.wait_below(RAW_IDS);
        let len = frame.len().min(BUFFER_BYTES - HEADER_BYTES);
        let buffer = self.buffers.write(id);
        buffer[..HEADER_BYTES].copy_from_slice(&header);
        buffer[HEADER_BYTES..HEADER_BYTES + len].copy_from_slice(&frame[..len]);
        let address = self.buffers.address(id);
        self.show(id, &[(id, address, (HEADER_BYTES + len) as u32, 0, 0)]);
    }

    /// Address of memory that an attack may show: a valid frame's beginning.
    pub fn valid_address(&self) -> u64 {
        self.buffers.address(RAW_IDS)
    }

    /// Writes descriptors (id, address, length, flags, next) as they are and shows the chain that begins with `head`.
    pub fn show(&mut self, head: u16, descriptors: &[(u16, u64, u32, u16, u16)]) {
        for (id, address, len, flags, next) in descriptors {
            self.transmit.describe_raw(*id, *address, *len, *flags, *next);
        }
        self.transmit.post(head);
        self.transmit.publish();
        self.outstanding += 1;
        self.ring_transmit();
    }

    /// Shows one descriptor with this address, length, flags and next, and waits until the device has returned it.
    pub fn show_one(&mut self, address: u64, len: u32, flags: u16, next: u16) {
        self.show(RAW_IDS, &[(RAW_IDS, address, len, flags, next)]);
        self.wait_below(1);
    }

    /// Waits until the device has returned so many that fewer than `limit` are outstanding.
    pub fn wait_below(&mut self, limit: u16) {
        while self.outstanding >= limit {
            match self.transmit.take_used() {
                Some(_) => self.outstanding -= 1,
                None => core::hint::spin_loop(),
            }
        }
    }

    /// Tells the device of new frames.
    pub fn ring_transmit(&self) {
        self.transmit_kick.ring();
    }

    /// Tells the device of new receive buffers.
    pub fn ring_receive(&self) {
        self.receive_kick.ring();
    }
}

/// The device, reset and known to have a driver.
pub fn find() -> Option<Mmio> {
    let registers = (MMIO_BASE + device::NET * MMIO_STRIDE) as *mut u32;
    // SAFETY: the VMM's page tables map the devices' pages for ever, at the addresses of the layout.
    unsafe { Mmio::find(registers, NETWORK).ok() }
}
