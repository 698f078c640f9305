//! Ethernet frames with a TCP segment, true or false. Checksums stay zero: nothing between here and the host half reads
//! them.

use alloc::vec::Vec;
use escape_abi::message::Flow;

/// TCP flags.
pub mod flag {
    /// The sender has finished.
    pub const FIN: u8 = 1;
    /// A connection begins.
    pub const SYN: u8 = 2;
    /// A connection is broken off.
    pub const RST: u8 = 4;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 16;
}

/// The headers of a segment.
#[derive(Clone, Copy)]
pub struct Packet {
    /// Source address.
    pub source_ip: [u8; 4],
    /// Client and both ports.
    pub flow: Flow,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledges: u32,
    /// TCP flags.
    pub flags: u8,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// IPv4 protocol.
    pub protocol: u8,
    /// EtherType.
    pub ethertype: u16,
}

impl Packet {
    /// A plain segment of this flow.
    pub const fn new(source_ip: [u8; 4], flow: Flow) -> Self {
        Self {
            source_ip,
            flow,
            sequence: 0,
            acknowledges: 0,
            flags: flag::ACK,
            fragment: 0x4000,
            protocol: 6,
            ethertype: 0x0800,
        }
    }

    /// The frame with this payload.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(54 + payload.len());
        frame.extend([2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1]);
        frame.extend(self.ethertype.to_be_bytes());
        frame.extend([0x45, 0]);
        frame.extend((40 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(self.fragment.to_be_bytes());
        frame.extend([64, self.protocol, 0, 0]);
        frame.extend(self.source_ip);
        frame.extend(self.flow.ip);
        frame.extend(self.flow.service_port.to_be_bytes());
        frame.extend(self.flow.port.to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(self.acknowledges.to_be_bytes());
        frame.extend([0x50, self.flags, 0x40, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }
}
