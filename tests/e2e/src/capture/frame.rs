//! TCP segments in Ethernet frames.

use std::net::{Ipv4Addr, SocketAddrV4};

/// FIN, SYN and RST in [`Segment::flags`].
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const ACK: u8 = 16;

/// A TCP segment over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// To whom.
    pub to: SocketAddrV4,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags: the low byte.
    pub flags: u8,
    /// TSval of the time-stamp option.
    pub tsval: Option<u32>,
    /// Data.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The segment in a frame; `None` if there is none, or not a whole one.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(14..).filter(|_| frame.get(12..14) == Some(&[8, 0]))?;
        let first = *packet.first()?;
        let head = usize::from(first & 15) * 4;
        let length = usize::from(u16_at(packet, 2)?);
        let is_tcp = first >> 4 == 4 && head >= 20 && *packet.get(9)? == 6 && u16_at(packet, 6)? & 0x3fff == 0;
        let segment = packet.get(head..length).filter(|_| is_tcp)?;
        let data = usize::from(*segment.get(12)? >> 4) * 4;
        let options = segment.get(20..data)?;
        let address = |at: usize, port: usize| {
            let ip: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), u16_at(segment, port)?))
        };
        Some(Self {
            from: address(12, 0)?,
            to: address(16, 2)?,
            seq: u32_at(segment, 4)?,
            ack: u32_at(segment, 8)?,
            flags: *segment.get(13)?,
            tsval: tsval(options),
            payload: segment.get(data..)?,
        })
    }
}

fn tsval(mut options: &[u8]) -> Option<u32> {
    loop {
        options = match options {
            [0, ..] | [] => return None,
            [1, rest @ ..] => rest,
            [8, 10, rest @ ..] => return u32_at(rest, 0),
            [_, length, ..] => options.get(usize::from(*length).max(2)..)?,
            [_] => return None,
        };
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame from 10.0.0.1:80 to 10.0.0.2:5000, padded as short frames are.
    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + 32 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 80, 0x13, 0x88, 0, 0, 0, 5, 0, 0, 0, 9, 0x80, 0x18, 1, 0, 0, 0, 0, 0]);
        frame.extend([1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 0, 0]);
        frame.extend(payload);
        frame.extend([0; 6]);
        frame
    }

    #[test]
    fn a_segment_and_what_is_none() {
        let whole = frame(b"abc");
        let segment = Segment::parse(&whole).unwrap_or_else(|| panic!("a segment"));
        assert_eq!((segment.from.to_string(), segment.to.port()), ("10.0.0.1:80".into(), 5000));
        assert_eq!((segment.seq, segment.ack, segment.flags, segment.tsval), (5, 9, 0x18, Some(258)));
        assert_eq!(segment.payload, b"abc");
        for cut in 0..whole.len() - 6 {
            assert_eq!(Segment::parse(&whole[..cut]), None, "{cut} bytes");
        }
        for (at, byte) in [(12, 0x86), (14, 0x65), (23, 17), (21, 1)] {
            let mut other = whole.clone();
            other[at] = byte;
            assert_eq!(Segment::parse(&other), None, "byte {at}");
        }
    }

    #[test]
    fn options_that_make_no_sense_end() {
        assert_eq!(tsval(&[3, 0, 3, 0, 8, 10, 0, 0, 0, 7]), Some(7));
        assert_eq!(tsval(&[8, 10, 0, 0]), None);
        assert_eq!(tsval(&[5, 200, 1]), None);
        assert_eq!(tsval(&[2]), None);
    }
}
