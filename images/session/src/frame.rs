//! The frames that come in: which of them are TCP segments for us, and what they say.

use escape_abi::message::Flow;
use smoltcp::wire::{Ipv4Packet, TcpPacket, TcpSeqNumber};

pub(crate) const ETHERNET: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
const ETHERTYPE_ARP: [u8; 2] = [8, 6];
const PROTOCOL_TCP: u8 = 6;

/// Longest headers of IPv4 and TCP together, bytes.
pub(crate) const HEADERS_MAX: usize = 120;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A TCP segment to our address, with its headers looked at. Nothing of it is trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub flow: Flow,
    pub peer_mac: [u8; 6],
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub payload_len: u32,
    /// The IPv4 packet, without padding of the frame.
    pub packet: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a frame; `None` unless it is an unfragmented IPv4/TCP segment to `ip` of a length that its headers agree on.
    pub(crate) fn parse(frame: &'a [u8], ip: [u8; 4]) -> Option<Self> {
        if frame.get(12..ETHERNET)? != ETHERTYPE_IPV4 {
            return None;
        }
        let packet = frame.get(ETHERNET..)?;
        let header_len = match packet.first()? {
            v if v >> 4 == 4 => usize::from(v & 15) * 4,
            _ => return None,
        };
        let total = usize::from(be16(packet, 2)?);
        // More fragments, or not the first: never for us, and never passed on.
        if header_len < 20 || be16(packet, 6)? & 0x3fff != 0 || packet[9] != PROTOCOL_TCP || total > packet.len() {
            return None;
        }
        if packet.get(16..20)? != ip {
            return None;
        }
        let packet = packet.get(..total)?;
        let tcp = packet.get(header_len..)?;
        let tcp_header = usize::from(*tcp.get(12)? >> 4) * 4;
        if tcp_header < 20 || tcp_header > tcp.len() {
            return None;
        }
        let flow = Flow { ip: *packet.get(12..)?.first_chunk()?, port: be16(tcp, 0)?, service_port: be16(tcp, 2)? };
        let from = u32::from_be_bytes(flow.ip);
        // Nobody: this network, loopback, multicast and above, or ourselves.
        if flow.port == 0 || from >> 24 == 0 || from >> 24 == 127 || from >= 0xe000_0000 || flow.ip == ip {
            return None;
        }
        Some(Self {
            flow,
            peer_mac: *frame.get(6..)?.first_chunk()?,
            seq: be32(tcp, 4)?,
            ack: be32(tcp, 8)?,
            flags: *tcp.get(13)?,
            payload_len: u32::try_from(tcp.len() - tcp_header).ok()?,
            packet,
        })
    }

    /// The same segment without its payload and as if it began behind it: what is left of a FIN whose bytes are known already.
    pub(crate) fn behind_payload<'b>(&self, into: &'b mut [u8; HEADERS_MAX]) -> Option<&'b [u8]> {
        let len = self.packet.len().checked_sub(usize::try_from(self.payload_len).ok()?)?;
        let packet = into.get_mut(..len)?;
        packet.copy_from_slice(self.packet.get(..len)?);
        let mut ip = Ipv4Packet::new_unchecked(&mut *packet);
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        ip.set_total_len(u16::try_from(len).ok()?);
        ip.fill_checksum();
        let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
        tcp.set_seq_number(TcpSeqNumber(self.seq.wrapping_add(self.payload_len).cast_signed()));
        tcp.fill_checksum(&from, &to);
        Some(packet)
    }

    /// A connection request and nothing else.
    pub(crate) const fn is_pure_syn(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN && self.payload_len == 0
    }

    /// Checks both checksums: before a slot is given away, a garbled SYN is sorted out.
    pub(crate) fn checksums_ok(&self) -> bool {
        let Ok(ip) = Ipv4Packet::new_checked(self.packet) else { return false };
        let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else { return false };
        ip.verify_checksum() && tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into())
    }
}

/// Answers an ARP request for our address (RFC 826). Where an edge answers for the whole cell this never arrives.
pub(crate) fn arp_reply(frame: &[u8], mac: [u8; 6], ip: [u8; 4]) -> Option<[u8; 42]> {
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    if frame.get(12..14)? != ETHERTYPE_ARP || frame.get(14..22)? != REQUEST || frame.get(38..42)? != ip {
        return None;
    }
    let asker = frame.get(22..32)?;
    let mut reply = [0u8; 42];
    reply[..6].copy_from_slice(&asker[..6]);
    reply[6..12].copy_from_slice(&mac);
    reply[12..14].copy_from_slice(&ETHERTYPE_ARP);
    reply[14..22].copy_from_slice(&REQUEST);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&mac);
    reply[28..32].copy_from_slice(&ip);
    reply[32..42].copy_from_slice(asker);
    Some(reply)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_or_random_frame_is_looked_at_without_panic() {
        let mut x = 0x1234_5678_9abc_def1_u64;
        let mut frame = [0u8; 80];
        for round in 0..200_000u32 {
            for b in &mut frame {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                *b = x as u8;
            }
            frame[12..14].copy_from_slice(if round % 5 == 0 { &ETHERTYPE_ARP } else { &ETHERTYPE_IPV4 });
            frame[14] = 0x40 | frame[14] & 15;
            frame[16] = 0;
            frame[23] = PROTOCOL_TCP;
            frame[30..34].copy_from_slice(&[10, 0, 0, 1]);
            let cut = &frame[..(x >> 32) as usize % 81];
            if let Some(s) = Segment::parse(cut, [10, 0, 0, 1]) {
                assert!(s.packet.len() + ETHERNET <= cut.len() && (s.payload_len as usize) < s.packet.len());
                let _ = s.checksums_ok();
            }
            let _ = arp_reply(cut, [2; 6], [10, 0, 0, 1]);
        }
    }

    #[test]
    fn arp_for_us_only() {
        let mut request = [0u8; 60];
        request[6..12].copy_from_slice(&[9; 6]);
        request[12..14].copy_from_slice(&ETHERTYPE_ARP);
        request[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        request[22..28].copy_from_slice(&[9; 6]);
        request[28..32].copy_from_slice(&[10, 0, 0, 9]);
        request[38..42].copy_from_slice(&[10, 0, 0, 1]);
        assert!(arp_reply(&request, [2; 6], [10, 0, 0, 2]).is_none());
        let reply = arp_reply(&request, [2; 6], [10, 0, 0, 1]);
        assert_eq!(
            reply.map(|r| (r[21], r[28..32] == [10, 0, 0, 1], r[38..42] == [10, 0, 0, 9])),
            Some((2, true, true))
        );
    }
}
