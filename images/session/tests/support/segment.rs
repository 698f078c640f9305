//! TCP segments by hand: made with any numbers, flags and options, and taken apart.

use super::{SERVER_IP, SERVER_MAC};
use escape_abi::message::Flow;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;
/// ECN-Echo and Congestion Window Reduced.
pub const ECE: u8 = 64;
pub const CWR: u8 = 128;

/// Kinds of TCP options.
pub const OPTION_MSS: u8 = 2;
pub const OPTION_SCALE: u8 = 3;
pub const OPTION_SACK_PERMITTED: u8 = 4;
pub const OPTION_SACK: u8 = 5;
pub const OPTION_TIMESTAMP: u8 = 8;

const IP_AT: usize = 14;
const TCP_AT: usize = 34;

/// A segment of a client that is made by hand.
#[derive(Clone, Debug)]
pub struct Segment {
    pub flow: Flow,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// Padded to whole words by [`Self::frame`].
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Segment {
    pub fn new(flow: Flow, seq: u32, ack: u32, flags: u8) -> Self {
        Self { flow, seq, ack, flags, window: 0x7fff, options: vec![], payload: vec![] }
    }
    pub fn payload(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }
    pub fn options(self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self }
    }
    pub fn window(self, window: u16) -> Self {
        Self { window, ..self }
    }

    /// The Ethernet frame, with checksums.
    pub fn frame(&self) -> Vec<u8> {
        let options = self.options.len().next_multiple_of(4);
        let mut f = vec![0u8; TCP_AT + 20 + options];
        f[..6].copy_from_slice(&SERVER_MAC);
        f[6..12].copy_from_slice(&[6; 6]);
        f[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
        let total = (40 + options + self.payload.len()) as u16;
        f[16..18].copy_from_slice(&total.to_be_bytes());
        f[22..24].copy_from_slice(&[64, 6]);
        f[26..30].copy_from_slice(&self.flow.ip);
        f[30..34].copy_from_slice(&SERVER_IP);
        f[34..36].copy_from_slice(&self.flow.port.to_be_bytes());
        f[36..38].copy_from_slice(&self.flow.service_port.to_be_bytes());
        f[38..42].copy_from_slice(&self.seq.to_be_bytes());
        f[42..46].copy_from_slice(&self.ack.to_be_bytes());
        f[46] = (((20 + options) / 4) << 4) as u8;
        f[47] = self.flags;
        f[48..50].copy_from_slice(&self.window.to_be_bytes());
        f[54..54 + self.options.len()].copy_from_slice(&self.options);
        f.extend_from_slice(&self.payload);
        fill_checksums(&mut f);
        f
    }
}

/// Makes both checksums of an IPv4/TCP frame right.
pub fn fill_checksums(f: &mut [u8]) {
    let sum = |parts: &[&[u8]]| {
        let mut s = 0u32;
        for part in parts {
            for pair in part.chunks(2) {
                s += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            }
        }
        while s > 0xffff {
            s = (s & 0xffff) + (s >> 16);
        }
        (!(s as u16)).to_be_bytes()
    };
    f[24..26].fill(0);
    f[50..52].fill(0);
    let ip = sum(&[&f[IP_AT..TCP_AT]]);
    f[24..26].copy_from_slice(&ip);
    let len = (f.len() as u16 - TCP_AT as u16).to_be_bytes();
    let tcp = sum(&[&f[26..34], &[0, 6], &len, &f[TCP_AT..]]);
    f[50..52].copy_from_slice(&tcp);
}

/// A segment that was seen, from either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// (kind, data) without padding.
    pub options: Vec<(u8, Vec<u8>)>,
    pub payload: Vec<u8>,
}

impl Seen {
    /// Takes apart a frame without IP options, as both stacks make them.
    pub fn parse(f: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(f[at..at + 4].try_into().unwrap());
        let header = usize::from(f[46] >> 4) * 4;
        let end = IP_AT + usize::from(u16::from_be_bytes([f[16], f[17]]));
        let (mut rest, mut options) = (&f[54..TCP_AT + header], vec![]);
        while let [kind, tail @ ..] = rest {
            match kind {
                0 => break,
                1 => rest = tail,
                _ => {
                    let len = usize::from(tail[0]);
                    options.push((*kind, rest[2..len].to_vec()));
                    rest = &rest[len..];
                }
            }
        }
        Self {
            seq: word(38),
            ack: word(42),
            flags: f[47],
            window: u16::from_be_bytes([f[48], f[49]]),
            options,
            payload: f[TCP_AT + header..end].to_vec(),
        }
    }

    /// Sequence number behind it.
    pub fn end(&self) -> u32 {
        let control = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.seq.wrapping_add(self.payload.len() as u32).wrapping_add(control)
    }
    pub fn option(&self, kind: u8) -> Option<&[u8]> {
        self.options.iter().find(|o| o.0 == kind).map(|o| &o.1[..])
    }
    pub fn tsval(&self) -> Option<u32> {
        self.option(OPTION_TIMESTAMP).map(|o| u32::from_be_bytes(o[..4].try_into().unwrap()))
    }
}

/// Overwrites an option of a frame with no-operation.
pub fn strip_option(f: &mut [u8], kind: u8) {
    if let Some((at, len)) = find_option(f, kind) {
        f[at..at + len].fill(1);
    }
}

/// Where an option is, and how long.
pub fn find_option(f: &[u8], kind: u8) -> Option<(usize, usize)> {
    let end = TCP_AT + usize::from(f[46] >> 4) * 4;
    let mut at = TCP_AT + 20;
    while at < end && f[at] != 0 {
        let len = if f[at] == 1 { 1 } else { usize::from(f[at + 1]) };
        if f[at] == kind {
            return Some((at, len));
        }
        at += len;
    }
    None
}

/// `a` comes before `b`, modulo 2^32.
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}
