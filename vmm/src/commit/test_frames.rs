//! Frames for the tests of this folder.

use super::segment::TcpFlags;
use escape_abi::message::Flow;

/// Builds TCP frames with virtio-net header, as guest or client would send them (checksums left zero: nobody here reads them).
#[derive(Clone)]
pub struct FrameBuilder {
    flow: Flow,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

pub const SERVICE_IP: [u8; 4] = [10, 0, 0, 1];
pub const SERVICE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A flow told by its client port.
pub fn flow(port: u16) -> Flow {
    Flow { ip: [10, 0, 0, 9], port, service_port: 80 }
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self::new(flow(40_000))
    }
}

impl FrameBuilder {
    pub fn new(flow: Flow) -> Self {
        Self { flow, seq: 100, ack: 200, flags: TcpFlags::ACK, window: 1000, options: Vec::new(), payload: Vec::new() }
    }
    pub fn seq(mut self, seq: u32) -> Self {
        self.seq = seq;
        self
    }
    pub fn ack(mut self, ack: u32) -> Self {
        self.ack = ack;
        self
    }
    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }
    pub fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }
    /// TCP options, whole words.
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }
    pub fn sent_by_guest(self) -> Vec<u8> {
        let (from, to) = ((SERVICE_IP, self.flow.service_port), (self.flow.ip, self.flow.port));
        self.build(CLIENT_MAC, SERVICE_MAC, from, to)
    }
    pub fn sent_by_client(self) -> Vec<u8> {
        let (from, to) = ((self.flow.ip, self.flow.port), (SERVICE_IP, self.flow.service_port));
        self.build(SERVICE_MAC, CLIENT_MAC, from, to)
    }

    fn build(self, to_mac: [u8; 6], from_mac: [u8; 6], from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
        let mut f = vec![0; 12];
        f.extend(to_mac);
        f.extend(from_mac);
        f.extend([0x08, 0x00, 0x45, 0]);
        f.extend(((40 + self.options.len() + self.payload.len()) as u16).to_be_bytes());
        f.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        f.extend(from.0);
        f.extend(to.0);
        f.extend(from.1.to_be_bytes());
        f.extend(to.1.to_be_bytes());
        f.extend(self.seq.to_be_bytes());
        f.extend(self.ack.to_be_bytes());
        f.extend([((5 + self.options.len() / 4) << 4) as u8, self.flags]);
        f.extend(self.window.to_be_bytes());
        f.extend([0; 4]);
        f.extend(self.options);
        f.extend(self.payload);
        f
    }
}
