//! Checksums of received frames (RFC 1071, RFC 791, RFC 9293 section 3.1).
//!
//! The device says per frame whether the TCP checksum needs no look (virtio 1.2, section 5.1.6.4): then only the IPv4 header
//! is summed. The server trusts what comes from here.

const ETHERNET: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TCP: u8 = 6;
const IPV4_HEADER_MIN: usize = 20;

/// An Ethernet frame whose checksums are right, as far as they are looked at: the IPv4 header's always, TCP's unless
/// `tcp_is_done`. Frames of other protocols pass; IPv4 with impossible lengths does not.
pub fn is_right(frame: &[u8], tcp_is_done: bool) -> bool {
    if frame.get(12..ETHERNET) != Some(&ETHERTYPE_IPV4) {
        return true;
    }
    ipv4_is_right(frame.get(ETHERNET..).unwrap_or_default(), tcp_is_done).unwrap_or(false)
}

/// `None`: the lengths are impossible.
fn ipv4_is_right(packet: &[u8], tcp_is_done: bool) -> Option<bool> {
    let header_len = usize::from(packet.first()? & 15) * 4;
    let total_len = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let header = packet.get(..header_len).filter(|h| h.len() >= IPV4_HEADER_MIN)?;
    let segment = packet.get(header_len..total_len)?;
    if fold(sum(header)) != u16::MAX {
        return Some(false);
    }
    // The rest of a fragment has no TCP header; the server takes no fragments.
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if tcp_is_done || header[9] != TCP || is_fragment {
        return Some(true);
    }
    let pseudo_header =
        sum(&header[12..20]) + u64::from(u16::from(TCP).to_be()) + u64::from((segment.len() as u16).to_be());
    Some(fold(pseudo_header + sum(segment)) == u16::MAX)
}

/// The sum of the bytes as 16-bit words of this machine's order, which a one's-complement sum allows; an odd byte at the
/// end counts as followed by zero.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let whole: u64 = words.iter().map(|w| u64::from(u32::from_ne_bytes(*w))).sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    whole + u64::from(u32::from_ne_bytes(last))
}

/// Folds the carries back in.
fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum by the book, in network order, byte by byte.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for (i, byte) in bytes.iter().enumerate() {
            sum += u32::from(*byte) << if i % 2 == 0 { 8 } else { 0 };
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// A correct IPv4/TCP frame with `payload` bytes of data and `padding` behind it.
    fn frame(payload: usize, padding: usize) -> Vec<u8> {
        let segment_len = 20 + payload;
        let mut ip = vec![0x45, 0, 0, 0, 1, 2, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        ip[2..4].copy_from_slice(&((20 + segment_len) as u16).to_be_bytes());
        let header = slow(&ip).to_be_bytes();
        ip[10..12].copy_from_slice(&header);
        let mut tcp: Vec<u8> = (0..segment_len).map(|i| (i * 37 + 11) as u8).collect();
        tcp[16..18].fill(0);
        let mut pseudo = ip[12..20].to_vec();
        pseudo.extend([0, TCP]);
        pseudo.extend((segment_len as u16).to_be_bytes());
        pseudo.extend(&tcp);
        let checksum = slow(&pseudo).to_be_bytes();
        tcp[16..18].copy_from_slice(&checksum);
        let mut frame = vec![2; 12];
        frame.extend(ETHERTYPE_IPV4);
        frame.extend(ip);
        frame.extend(tcp);
        frame.extend(vec![0xaa; padding]);
        frame
    }

    #[test]
    fn right_frames_of_every_length_pass() {
        for payload in (0..70).chain([535, 536, 1459, 1460]) {
            assert!(is_right(&frame(payload, 0), false), "{payload}");
            assert!(is_right(&frame(payload, 6), false), "{payload}, padded");
        }
    }

    #[test]
    fn every_single_bit_error_is_found() {
        let good = frame(41, 0);
        for bit in ETHERNET * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Fragment bits and the protocol are in the header's sum; so everything is found.
            assert!(!is_right(&bad, false), "bit {bit}");
            let in_header = bit < (ETHERNET + 20) * 8;
            assert_eq!(is_right(&bad, true), !in_header, "bit {bit}, TCP vouched for");
        }
    }

    #[test]
    fn impossible_lengths_do_not_pass_and_other_protocols_do() {
        let good = frame(10, 0);
        for len in ETHERNET..good.len() {
            assert!(!is_right(&good[..len], false), "{len}");
        }
        for len in 0..ETHERNET {
            assert!(is_right(&good[..len], false), "{len}");
        }
        let mut arp = frame(10, 0);
        arp[13] = 6;
        assert!(is_right(&arp, false));
    }
}
