//! The one parser of frames: virtio-net header (12 B), Ethernet, IPv4, TCP, from the VMM's own copy.
//!
//! Every byte string is exactly one [`Frame`]. The parser is strict where leniency would let a TCP byte of a protected
//! flow pass under another name: VLAN tags, TCP in fragments, IPv4 options before TCP, lengths that disagree and
//! checksum offload aimed anywhere but at the TCP checksum are [`Frame::Unparsable`], which nobody releases.

use super::segment::{Segment, TcpFlags};
use escape_abi::message::Flow;
use thiserror::Error;

/// Bytes of the virtio-net header before each frame (virtio 1.2, section 5.1.6, with VIRTIO_F_VERSION_1).
pub const VNET_HEADER_LEN: usize = 12;
/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER_LEN: usize = 14;
/// Longest frame, virtio-net header included: a 65,535-byte IPv4 packet (a TSO super-frame) in Ethernet.
pub const FRAME_LEN_MAX: usize = VNET_HEADER_LEN + ETHERNET_HEADER_LEN + 65_535;

/// Shortest Ethernet payload; shorter packets are padded to it, longer ones are never padded.
const ETHERNET_PAYLOAD_MIN: usize = 46;
const IPV4_HEADER_LEN: usize = 20;
const PROTOCOL_TCP: u8 = 6;

/// Who sent a frame: decides which address is the client's, and whether the virtio-net header is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The guest: a TX frame. Its virtio-net header is checked too.
    Guest,
    /// A client: a frame from tap or mirror. The virtio-net header is the host kernel's.
    Client,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A well-formed, unfragmented TCP segment over IPv4 without IP options.
    Tcp(Segment),
    /// ARP.
    Arp,
    /// Anything that is certainly not TCP over IPv4.
    Other,
    /// What may be TCP over IPv4 but cannot be told: never released, never given to a guest.
    Unparsable(Flaw),
}

/// Why a frame is unparsable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// Shorter than its headers say, or longer than [`FRAME_LEN_MAX`].
    #[error("frame shorter than its headers, or longer than any frame")]
    Length,
    /// A VLAN tag hides what follows.
    #[error("VLAN tag")]
    Vlan,
    /// Not version 4, or a header length below 20.
    #[error("bad IPv4 version or header length")]
    Ipv4Header,
    /// IPv4 options before a TCP header.
    #[error("IPv4 options before TCP")]
    Ipv4Options,
    /// A fragment of a TCP segment (RFC 791; the guest's path sets DF).
    #[error("fragment of a TCP segment")]
    Fragment,
    /// Bytes beyond the IPv4 packet that are not Ethernet padding.
    #[error("bytes after the IPv4 packet")]
    Trailing,
    /// The data offset points before or beyond the segment.
    #[error("bad TCP data offset")]
    DataOffset,
    /// Checksum or segmentation offload that does not fit the TCP segment.
    #[error("virtio-net header does not fit the TCP segment")]
    VnetHeader,
}

/// Says what `frame` (virtio-net header first) is. Total: every byte string has exactly one answer.
pub fn parse(frame: &[u8], source: Source) -> Frame {
    classify(frame, source).unwrap_or_else(Frame::Unparsable)
}

fn classify(frame: &[u8], source: Source) -> Result<Frame, Flaw> {
    if frame.len() > FRAME_LEN_MAX {
        return Err(Flaw::Length);
    }
    let (vnet, ethernet) = frame.split_at_checked(VNET_HEADER_LEN).ok_or(Flaw::Length)?;
    let (ethernet_header, packet) = ethernet.split_at_checked(ETHERNET_HEADER_LEN).ok_or(Flaw::Length)?;
    match be16(ethernet_header, 12)? {
        0x0800 => {}
        0x0806 => return Ok(Frame::Arp),
        0x8100 | 0x88a8 | 0x9100 => return Err(Flaw::Vlan),
        _ => return Ok(Frame::Other),
    }
    let Some(tcp) = tcp_of_ipv4(packet)? else { return Ok(Frame::Other) };
    let segment = segment(ethernet_header, packet, tcp, source)?;
    if source == Source::Guest && !offload_fits(vnet)? {
        return Err(Flaw::VnetHeader);
    }
    Ok(Frame::Tcp(segment))
}

/// The TCP part of an IPv4 packet; `None` if it carries another protocol.
fn tcp_of_ipv4(packet: &[u8]) -> Result<Option<&[u8]>, Flaw> {
    let version_ihl = byte(packet, 0)?;
    if version_ihl >> 4 != 4 || version_ihl & 0xf < 5 || packet.len() < IPV4_HEADER_LEN {
        return Err(if packet.len() < IPV4_HEADER_LEN { Flaw::Length } else { Flaw::Ipv4Header });
    }
    if byte(packet, 9)? != PROTOCOL_TCP {
        return Ok(None);
    }
    if version_ihl & 0xf != 5 {
        return Err(Flaw::Ipv4Options);
    }
    // More fragments, or a fragment offset. (DF is bit 14, the reserved bit 15 means nothing.)
    if be16(packet, 6)? & 0x3fff != 0 {
        return Err(Flaw::Fragment);
    }
    let total = usize::from(be16(packet, 2)?);
    let tcp = packet.get(IPV4_HEADER_LEN..total).ok_or(Flaw::Length)?;
    if packet.len() > total && packet.len() > ETHERNET_PAYLOAD_MIN {
        return Err(Flaw::Trailing);
    }
    Ok(Some(tcp))
}

fn segment(ethernet: &[u8], packet: &[u8], tcp: &[u8], source: Source) -> Result<Segment, Flaw> {
    let header_len = usize::from(byte(tcp, 12)? >> 4) * 4;
    if header_len < 20 || header_len > tcp.len() {
        return Err(Flaw::DataOffset);
    }
    let payload_len = u16::try_from(tcp.len() - header_len).map_err(|_| Flaw::Length)?;
    let (from, to) = (array::<4>(packet, 12)?, array::<4>(packet, 16)?);
    let (from_port, to_port) = (be16(tcp, 0)?, be16(tcp, 2)?);
    let (ip, port, service_ip, service_port) = match source {
        Source::Guest => (to, to_port, from, from_port),
        Source::Client => (from, from_port, to, to_port),
    };
    Ok(Segment {
        flow: Flow { ip, port, service_port },
        service_ip,
        source_mac: array(ethernet, 6)?,
        seq: be32(tcp, 4)?,
        ack: be32(tcp, 8)?,
        flags: TcpFlags(byte(tcp, 13)?),
        window: be16(tcp, 14)?,
        payload_len,
    })
}

/// Does the virtio-net header ask for nothing but the TCP checksum and TCP segmentation of this frame?
///
/// A checksum offset elsewhere would make the host kernel overwrite bytes that were classified: a sequence number, say.
fn offload_fits(vnet: &[u8]) -> Result<bool, Flaw> {
    const NEEDS_CSUM: u8 = 1;
    const TCP_START: u16 = (ETHERNET_HEADER_LEN + IPV4_HEADER_LEN) as u16;
    const TCP_CHECKSUM: u16 = 16;
    const GSO_TCPV4: u8 = 1;
    const GSO_ECN: u8 = 0x80;
    let (flags, gso) = (byte(vnet, 0)?, byte(vnet, 1)?);
    let checksum = match flags {
        0 => false,
        NEEDS_CSUM => le16(vnet, 6)? == TCP_START && le16(vnet, 8)? == TCP_CHECKSUM,
        _ => return Ok(false),
    };
    Ok(match gso {
        0 => flags == 0 || checksum,
        GSO_TCPV4 => checksum && le16(vnet, 4)? != 0,
        _ => gso == GSO_TCPV4 | GSO_ECN && checksum && le16(vnet, 4)? != 0,
    })
}

fn byte(bytes: &[u8], at: usize) -> Result<u8, Flaw> {
    bytes.get(at).copied().ok_or(Flaw::Length)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Flaw> {
    bytes.get(at..).and_then(|b| b.first_chunk()).copied().ok_or(Flaw::Length)
}

fn be16(bytes: &[u8], at: usize) -> Result<u16, Flaw> {
    array(bytes, at).map(u16::from_be_bytes)
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, Flaw> {
    array(bytes, at).map(u32::from_be_bytes)
}

fn le16(bytes: &[u8], at: usize) -> Result<u16, Flaw> {
    array(bytes, at).map(u16::from_le_bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_frames::FrameBuilder;
    use super::*;
    use proptest::prelude::*;

    fn flaw(frame: &[u8]) -> Option<Flaw> {
        match parse(frame, Source::Guest) {
            Frame::Unparsable(flaw) => Some(flaw),
            _ => None,
        }
    }

    #[test]
    fn reads_a_segment_from_either_side() {
        let flow = Flow { ip: [10, 0, 0, 9], port: 40_001, service_port: 80 };
        let builder = FrameBuilder::new(flow).seq(7).ack(9).flags(TcpFlags::ACK | TcpFlags::PSH).window(321);
        for (bytes, source) in [
            (builder.clone().payload(b"hello").sent_by_guest(), Source::Guest),
            (builder.payload(b"hello").sent_by_client(), Source::Client),
        ] {
            let Frame::Tcp(segment) = parse(&bytes, source) else { panic!("not TCP") };
            assert_eq!(segment.flow, flow);
            assert_eq!((segment.seq, segment.ack, segment.seq_end(), segment.window), (7, 9, 12, 321));
            assert_eq!(segment.service_ip, [10, 0, 0, 1]);
        }
    }

    #[test]
    fn every_truncation_is_unparsable() {
        let whole = FrameBuilder::default().payload(&[7; 100]).sent_by_guest();
        for len in 0..whole.len() {
            assert!(flaw(&whole[..len]).is_some(), "{len} bytes of {} parsed", whole.len());
        }
    }

    #[test]
    fn hiding_places_of_tcp_are_unparsable() {
        let good = FrameBuilder::default().payload(&[7; 100]).sent_by_guest();
        assert_eq!(flaw(&good), None);
        let with = |at: usize, bytes: &[u8]| {
            let mut frame = good.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            flaw(&frame)
        };
        const IP: usize = 26;
        assert_eq!(with(24, &[0x81, 0x00]), Some(Flaw::Vlan));
        assert_eq!(with(24, &[0x88, 0xa8]), Some(Flaw::Vlan));
        assert_eq!(with(IP, &[0x46]), Some(Flaw::Ipv4Options));
        assert_eq!(with(IP, &[0x44]), Some(Flaw::Ipv4Header));
        assert_eq!(with(IP, &[0x65]), Some(Flaw::Ipv4Header));
        assert_eq!(with(IP + 6, &[0x20, 0]), Some(Flaw::Fragment));
        assert_eq!(with(IP + 6, &[0, 1]), Some(Flaw::Fragment));
        assert_eq!(with(IP + 6, &[0x40, 0]), None);
        assert_eq!(with(IP + 2, &[0, 0]), Some(Flaw::Length));
        assert_eq!(with(IP + 2, &[0, 60]), Some(Flaw::Trailing));
        assert_eq!(with(IP + 2, &[0xff, 0xff]), Some(Flaw::Length));
        assert_eq!(with(IP + 20 + 12, &[0x40]), Some(Flaw::DataOffset));
        assert_eq!(with(IP + 20 + 12, &[0xf0]), None);
        let short = FrameBuilder::default().sent_by_guest();
        let mut bad = short.clone();
        bad[IP + 20 + 12] = 0x60;
        assert_eq!(flaw(&bad), Some(Flaw::DataOffset));
    }

    #[test]
    fn ethernet_padding_is_no_flaw() {
        let mut frame = FrameBuilder::default().sent_by_guest();
        frame.resize(VNET_HEADER_LEN + ETHERNET_HEADER_LEN + 46, 0);
        assert_eq!(flaw(&frame), None);
        frame.push(0);
        assert_eq!(flaw(&frame), Some(Flaw::Trailing));
    }

    /// All flag bytes, all segmentation types, and checksum fields around the right ones.
    #[test]
    fn only_tcp_offload_of_this_frame_is_accepted() {
        let good = FrameBuilder::default().payload(&[1; 64]).sent_by_guest();
        for flags in 0..=255u8 {
            for gso in 0..=255u8 {
                for (start, offset, size) in
                    [(34u16, 16u16, 1000u16), (34, 16, 0), (34, 4, 1000), (14, 10, 1000), (33, 17, 9)]
                {
                    let mut frame = good.clone();
                    frame[0] = flags;
                    frame[1] = gso;
                    frame[4..6].copy_from_slice(&size.to_le_bytes());
                    frame[6..8].copy_from_slice(&start.to_le_bytes());
                    frame[8..10].copy_from_slice(&offset.to_le_bytes());
                    let checksum = flags == 1 && (start, offset) == (34, 16);
                    let fits = match gso {
                        0 => flags == 0 || checksum,
                        1 | 0x81 => checksum && size != 0,
                        _ => false,
                    };
                    assert_eq!(flaw(&frame).is_none(), fits, "flags {flags} gso {gso} {start}+{offset} size {size}");
                    assert!(matches!(parse(&frame, Source::Client), Frame::Tcp(_)));
                }
            }
        }
    }

    #[test]
    fn other_protocols_are_other() {
        let mut frame = FrameBuilder::default().sent_by_guest();
        frame[26 + 9] = 17;
        assert_eq!(parse(&frame, Source::Guest), Frame::Other);
        frame[24..26].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(parse(&frame, Source::Guest), Frame::Other);
        frame[24..26].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(parse(&frame, Source::Guest), Frame::Arp);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, Source::Guest);
            let _ = parse(&bytes, Source::Client);
        }

        #[test]
        fn mutated_segments_never_panic_and_stay_in_bounds(at in 0usize..90, value in any::<u8>(), cut in 0usize..90) {
            let mut frame = FrameBuilder::default().payload(&[3; 24]).sent_by_guest();
            let len = frame.len();
            frame[at % len] = value;
            frame.truncate(cut.max(1));
            if let Frame::Tcp(segment) = parse(&frame, Source::Guest) {
                prop_assert!(usize::from(segment.payload_len) <= frame.len());
            }
        }
    }
}
