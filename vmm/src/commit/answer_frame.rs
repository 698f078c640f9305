//! Builds the frames that the VMM itself says in the name of a slice that is no more: a pure acknowledgement, and a reset.

use super::frame::{ETHERNET_HEADER_LEN, VNET_HEADER_LEN};
use super::segment::{Segment, TcpFlags};

/// Length of such a frame: virtio-net header, Ethernet, IPv4 and TCP header without options.
pub const ANSWER_FRAME_LEN: usize = VNET_HEADER_LEN + ETHERNET_HEADER_LEN + 40;

/// A pure ACK (RFC 9293, section 3.10.7.4) that answers `to`, with window 0, valid checksums and no timestamp option (a
/// receiver takes a segment without one: RFC 7323, section 3.2).
pub fn ack_frame(to: &Segment, service_mac: [u8; 6], seq: u32, ack: u32) -> [u8; ANSWER_FRAME_LEN] {
    answer_frame(to, service_mac, (seq, ack), TcpFlags::ACK)
}

/// An RST that answers `to` (RFC 9293, section 3.10.7.1). Its receiver takes it if `seq` is just what it expects next (RFC 5961, section 3.2).
pub fn reset_frame(to: &Segment, service_mac: [u8; 6], seq: u32) -> [u8; ANSWER_FRAME_LEN] {
    answer_frame(to, service_mac, (seq, 0), TcpFlags::RST)
}

fn answer_frame(to: &Segment, service_mac: [u8; 6], (seq, ack): (u32, u32), flags: u8) -> [u8; ANSWER_FRAME_LEN] {
    let mut ip = [0; 20];
    put(&mut ip, 0, &[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
    put(&mut ip, 12, &to.service_ip);
    put(&mut ip, 16, &to.flow.ip);
    let mut tcp = [0; 20];
    put(&mut tcp, 0, &to.flow.service_port.to_be_bytes());
    put(&mut tcp, 2, &to.flow.port.to_be_bytes());
    put(&mut tcp, 4, &seq.to_be_bytes());
    put(&mut tcp, 8, &ack.to_be_bytes());
    put(&mut tcp, 12, &[5 << 4, flags]);
    let ip_sum = checksum(sum(&ip));
    put(&mut ip, 10, &ip_sum.to_be_bytes());
    // Pseudo header: both addresses, protocol 6, 20 bytes (RFC 9293, section 3.1).
    let tcp_sum = checksum(sum(&tcp) + sum(&to.service_ip) + sum(&to.flow.ip) + 6 + 20);
    put(&mut tcp, 16, &tcp_sum.to_be_bytes());

    let mut frame = [0; ANSWER_FRAME_LEN];
    put(&mut frame, VNET_HEADER_LEN, &to.source_mac);
    put(&mut frame, VNET_HEADER_LEN + 6, &service_mac);
    put(&mut frame, VNET_HEADER_LEN + 12, &[0x08, 0x00]);
    put(&mut frame, VNET_HEADER_LEN + ETHERNET_HEADER_LEN, &ip);
    put(&mut frame, VNET_HEADER_LEN + ETHERNET_HEADER_LEN + 20, &tcp);
    frame
}

fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = into.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum()
}

/// One's complement of the folded sum (RFC 1071).
fn checksum(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, Source, parse};
    use super::super::test_frames::{CLIENT_MAC, FrameBuilder, SERVICE_IP, SERVICE_MAC};
    use super::*;

    #[test]
    fn is_a_valid_answer() {
        let Frame::Tcp(late) = parse(&FrameBuilder::default().sent_by_client(), Source::Client) else {
            panic!("not TCP")
        };
        let frame = ack_frame(&late, SERVICE_MAC, 0x1234_5678, 0xffff_ffff);
        let Frame::Tcp(answer) = parse(&frame, Source::Guest) else { panic!("not TCP") };
        assert_eq!((answer.flow, answer.service_ip, answer.source_mac), (late.flow, SERVICE_IP, SERVICE_MAC));
        assert_eq!((answer.seq, answer.ack, answer.seq_len()), (0x1234_5678, 0xffff_ffff, 0));
        assert!(answer.pure_ack());
        assert_eq!(frame[12..18], CLIENT_MAC);
        // Sums over data with a right checksum fold to all ones.
        assert_eq!(checksum(sum(&frame[26..46])), 0);
        assert_eq!(checksum(sum(&frame[46..]) + sum(&frame[38..46]) + 26), 0);
    }
}
