//! One guest: a server on a host that only collects.

use super::arena::{Arena, Control};
use super::{HTTP, IMAGE_ID, SERVER_IP, SERVER_MAC, STREAM};
use escape_abi::message::Flow;
use escape_abi::{BootParams, GuestMessage, HostMessage};
use escape_session::{Host, Memory, Server};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub struct TestHost {
    pub now: i64,
    pub frames: Vec<Vec<u8>>,
    pub messages: Vec<GuestMessage>,
    /// Frames and messages that the rings take before they are full.
    pub frame_room: usize,
    pub message_room: usize,
}

impl Host for TestHost {
    fn now_us(&self) -> i64 {
        self.now
    }
    fn transmit(&mut self, frame: &[u8]) -> bool {
        let room = self.frames.len() < self.frame_room;
        if room {
            self.frames.push(frame.to_vec());
        }
        room
    }
    fn send(&mut self, message: GuestMessage) -> bool {
        let room = self.messages.len() < self.message_room;
        if room {
            self.messages.push(message);
        }
        room
    }
}

pub struct Guest {
    pub server: Server<TestHost>,
    pub control: Control,
    /// This guest's clock minus the world's.
    pub clock_offset: i64,
}

/// To be held while a server runs: the timestamp of the segments that smoltcp makes passes through a static, and tests of one process
/// are threads.
pub fn turn_lock() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn params(node: u32, n_slots: u32) -> BootParams {
    BootParams {
        magic: escape_abi::boot::BOOT_MAGIC,
        version: escape_abi::boot::ABI_VERSION,
        n_slots,
        tsc_khz: 1,
        ram_bytes: 0,
        image_id: IMAGE_ID,
        wall_us: 0,
        node,
        idle_timeout_s: 0,
        ip: SERVER_IP,
        mac: SERVER_MAC,
        http_port: HTTP,
        stream_port: STREAM,
        slice_per_client: 0,
        cmdline: [0; 256],
    }
}

impl Guest {
    pub fn new(params: &BootParams, seed: u64, arena: &Arena, clock_offset: i64) -> Self {
        let control = Control::new(arena.n_slots);
        // SAFETY: both mappings outlive the server: `control` is dropped after it, and tests keep the arena longer. One guest at a time uses a slot.
        let memory = unsafe { Memory::new(control.memory.base, arena.memory.base, arena.n_slots) };
        let host = TestHost { now: 0, frames: vec![], messages: vec![], frame_room: 1 << 20, message_room: 1 << 20 };
        Self { server: Server::new(params, seed, memory, host), control, clock_offset }
    }

    pub fn lease(&mut self, first_slot: u32, generation: u32) {
        self.server.on_message(HostMessage::Lease { first_slot, generation });
    }

    pub fn set_time(&mut self, world_now: i64) {
        self.server.host().now = world_now + self.clock_offset;
    }

    /// Frames and messages since the last call.
    pub fn take(&mut self) -> (Vec<Vec<u8>>, Vec<GuestMessage>) {
        let host = self.server.host();
        (std::mem::take(&mut host.frames), std::mem::take(&mut host.messages))
    }
}

/// The client's side of a frame that a server sent.
pub fn flow_of(frame: &[u8]) -> Option<Flow> {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    (frame[12..14] == [8, 0]).then(|| Flow {
        ip: frame[30..34].try_into().unwrap(),
        port: port(36),
        service_port: port(34),
    })
}
