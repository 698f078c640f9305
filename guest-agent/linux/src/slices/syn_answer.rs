//! The answer to a SYN, said once more.
//!
//! A machine may die between the first checkpoint of a slice and its client's hearing the kernel's answer. The kernel that goes on has a
//! connection that is open, and would answer the client's SYN with what opens nothing. So the agent says the answer again, with the
//! numbers and options of the first one; a client that has heard it already takes no notice.

use escape_abi::message::opening_flag;
use escape_process::TcpState;
use rustix::net::{AddressFamily, SendFlags, SocketAddrV4, SocketFlags, SocketType, ipproto};
use std::net::Ipv4Addr;

/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// SYN and ACK.
const FLAGS: u8 = 0x12;
/// Our window in the answer, which is not scaled.
const WINDOW: u16 = 65_535;

/// Says it.
///
/// # Errors
/// The kernel refuses.
pub fn say(tcp: &TcpState, clock: u32) -> Result<(), rustix::io::Errno> {
    let (kind, protocol) = (SocketType::RAW, Some(ipproto::RAW));
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, protocol)?;
    let to = SocketAddrV4::new(Ipv4Addr::from(tcp.flow.ip), 0);
    rustix::net::sendto(&socket, &packet(tcp, clock), SendFlags::empty(), &to).map(drop)
}

fn packet(tcp: &TcpState, clock: u32) -> Vec<u8> {
    let options = options(tcp, clock);
    let words = u8::try_from(5 + options.len() / 4).unwrap_or(5);
    let mut segment = Vec::new();
    segment.extend(tcp.flow.service_port.to_be_bytes());
    segment.extend(tcp.flow.port.to_be_bytes());
    segment.extend(tcp.numbers.iss.to_be_bytes());
    segment.extend(tcp.numbers.irs.wrapping_add(1).to_be_bytes());
    segment.extend([words << 4, FLAGS]);
    segment.extend(WINDOW.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(options);
    let len = u16::try_from(segment.len()).unwrap_or(0);
    let pseudo = [&tcp.service_ip[..], &tcp.flow.ip, &[0, TCP], &len.to_be_bytes()].concat();
    let checksum = (!sum(&[pseudo, segment.clone()].concat())).to_be_bytes();
    segment.iter_mut().skip(16).zip(checksum).for_each(|(to, from)| *to = from);
    // The kernel fills in the IP header's checksum, identification and length.
    let total = (20 + len).to_be_bytes();
    let head = [&[0x45, 0][..], &total, &[0, 0, 0x40, 0, 64, TCP, 0, 0], &tcp.service_ip, &tcp.flow.ip].concat();
    [head, segment].concat()
}

/// As many as were agreed on, padded to whole words.
fn options(tcp: &TcpState, clock: u32) -> Vec<u8> {
    let numbers = &tcp.numbers;
    let has = |flag| numbers.flags & flag != 0;
    let mut options = vec![2, 4];
    options.extend(numbers.mss.to_be_bytes());
    if has(opening_flag::SACK) {
        options.extend([4, 2]);
    }
    if has(opening_flag::TIMESTAMPS) {
        options.extend([8, 10]);
        options.extend(clock.to_be_bytes());
        // What it echoes is not known any more; clients do not ask for it.
        options.extend([0; 4]);
    }
    if has(opening_flag::SCALE) {
        options.extend([3, 3, numbers.scale_of_service]);
    }
    options.resize(options.len().next_multiple_of(4), 1);
    options
}

/// The sum of the internet checksum (RFC 1071), folded.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use escape_abi::OpeningNumbers;
    use escape_abi::message::Flow;
    use escape_vmm::commit::{Frame, Source, SynOptions, parse};

    #[test]
    fn it_is_the_answer_that_was_given() {
        for flags in 0..8 {
            let numbers = OpeningNumbers {
                iss: u32::MAX,
                irs: 77,
                clock: 5,
                mss: 1400,
                window: 9,
                scale_of_client: 3,
                scale_of_service: 7,
                flags,
                reserved: 0,
            };
            let flow = Flow { ip: [10, 0, 0, 2], port: 40_000, service_port: 80 };
            let packet = packet(&TcpState::opened(flow, [10, 0, 0, 1], numbers, 0), 99);
            let frame = [&[0; 12][..], &[2; 12], &[8, 0], &packet].concat();
            let Frame::Tcp(segment) = parse(&frame, Source::Guest) else { panic!("no segment") };
            assert_eq!((segment.flow, segment.seq, segment.ack, segment.seq_len()), (flow, u32::MAX, 78, 1));
            let said = SynOptions::of(&frame, &segment);
            let has = |flag| flags & flag != 0;
            assert_eq!((said.mss, said.sack), (Some(1400), has(opening_flag::SACK)));
            assert_eq!(said.scale, has(opening_flag::SCALE).then_some(7));
            assert_eq!(said.clock, has(opening_flag::TIMESTAMPS).then_some(99));
            let pseudo = [&[10, 0, 0, 1, 10, 0, 0, 2, 0, TCP, 0][..], &[packet.len() as u8 - 20]].concat();
            assert_eq!(sum(&[&pseudo, &packet[20..]].concat()), 0xffff, "its checksum is right");
        }
    }
}
