//! Frames of a TCP client, made by hand.

use crate::guest::{GUEST_IP, GUEST_MAC, HTTP_PORT};

pub const CLIENT_IP: [u8; 4] = [10, 0, 0, 1];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// A segment that the guest sent.
#[derive(Debug)]
pub struct Segment {
    pub to_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub data: Vec<u8>,
}

impl Segment {
    /// Reads an Ethernet frame; anything but TCP with right checksums is `None`.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if frame.get(12..14)? != [8, 0] {
            return None;
        }
        let ip = frame.get(14..)?;
        let header_len = usize::from(ip.first()? & 15) * 4;
        let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        let tcp = ip.get(header_len..total)?;
        if ip.get(9) != Some(&6) || checksum(ip.get(..header_len)?) != 0 || checksum(&with_pseudo(ip, tcp)) != 0 {
            return None;
        }
        let word = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            to_port: u16::from_be_bytes([*tcp.get(2)?, *tcp.get(3)?]),
            seq: word(4)?,
            ack: word(8)?,
            flags: *tcp.get(13)?,
            data: tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?.to_vec(),
        })
    }
}

/// A client's side of a connection to the HTTP port.
pub struct Client {
    pub port: u16,
    pub seq: u32,
    pub ack: u32,
}

impl Client {
    pub fn new(port: u16) -> Self {
        Self { port, seq: 1000 * u32::from(port), ack: 0 }
    }

    /// A frame with the next sequence number, which it advances.
    pub fn frame(&mut self, flags: u8, data: &[u8]) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.port.to_be_bytes());
        tcp.extend(HTTP_PORT.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(data);
        let syn_fin = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.seq = self.seq.wrapping_add(data.len() as u32 + syn_fin);
        let mut ip = vec![0x45, 0];
        ip.extend((20 + tcp.len() as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(CLIENT_IP);
        ip.extend(GUEST_IP);
        let sum = checksum(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
        let sum = checksum(&with_pseudo(&ip, &tcp)).to_be_bytes();
        tcp[16..18].copy_from_slice(&sum);
        [&GUEST_MAC[..], &CLIENT_MAC, &[8, 0], &ip, &tcp].concat()
    }
}

/// An ARP request for the guest's address.
pub fn arp_request() -> Vec<u8> {
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &CLIENT_MAC, &CLIENT_IP, &[0; 6], &GUEST_IP].concat();
    [&[0xff; 6][..], &CLIENT_MAC, &[8, 6], &arp].concat()
}

fn with_pseudo(ip: &[u8], tcp: &[u8]) -> Vec<u8> {
    let len = (tcp.len() as u16).to_be_bytes();
    [&ip[12..20], &[0, 6], &len, tcp].concat()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
