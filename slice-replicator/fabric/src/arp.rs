//! Answers ARP for the service address.
//!
//! The address belongs to all guests of the cell and to no interface of the edge, so the edge's kernel does not answer
//! for it, and no guest is asked: a returning old owner must not teach anybody anything (PROTOCOL, finding 10).
//!
//! Source: RFC 826 (ARP), RFC 5227 (announcements and probes).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use thiserror::Error;

use crate::MacAddress;
use crate::netns::{NetNs, NetNsError};
use crate::raw_socket::RawSocket;

const ETHERTYPE_ARP: u16 = 0x0806;
const FRAME_LEN: usize = 42;
/// Least length of an Ethernet frame without its checksum.
const PADDED_FRAME_LEN: usize = 60;
const BROADCAST: MacAddress = [0xff; 6];
/// Ethernet (1), IPv4 (0x0800), 6 and 4 byte addresses.
const ARP_ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// Answers per second on average; what is asked beyond is dropped and counted (askers ask again).
pub const ANSWERS_PER_SECOND_MAX: u32 = 1_000;
/// Answers at once after a quiet time.
pub const ANSWER_BURST_MAX: u32 = 1_000;
/// Frames looked at per call of [`ArpResponder::on_readable`].
const FRAMES_PER_CALL_MAX: usize = 64;

/// What can go wrong with the responder.
#[derive(Debug, Error)]
pub enum ArpError {
    /// No packet socket on the interface.
    #[error("cannot open an ARP socket on interface {interface}: {source} (CAP_NET_RAW is needed)")]
    Open {
        /// Index of the interface.
        interface: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A frame could not be received or sent; the interface is down or gone.
    #[error("ARP on interface {interface}: {source}")]
    Io {
        /// Index of the interface.
        interface: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
}

/// What the responder has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArpCounters {
    /// Requests answered.
    pub answered: u64,
    /// Requests dropped because there were too many.
    pub limited: u64,
    /// Frames that are no sound request for the service address.
    pub malformed: u64,
    /// Frames in which somebody else claims the service address.
    pub conflicts: u64,
    /// Answers that the interface had no room for.
    pub unsent: u64,
}

/// Answers requests for one address on one interface, and nothing else.
#[derive(Debug)]
pub struct ArpResponder {
    socket: RawSocket,
    interface: u32,
    address: Ipv4Addr,
    mac: MacAddress,
    budget: AnswerBudget,
    counters: ArpCounters,
}

impl ArpResponder {
    /// Answers on interface `interface` of `namespace` that `address` is at `mac`, and announces it once.
    pub fn start(namespace: &NetNs, interface: u32, address: Ipv4Addr, mac: MacAddress) -> Result<Self, ArpError> {
        let socket = namespace
            .enter(|| open_socket(interface, address))?
            .map_err(|source| ArpError::Open { interface, source })?;
        let budget = AnswerBudget::new(Instant::now());
        let mut responder = Self { socket, interface, address, mac, budget, counters: ArpCounters::default() };
        responder.announce()?;
        Ok(responder)
    }

    /// Tells the network where the address is (a broadcast request for it by itself, RFC 5227 section 3), so that
    /// entries of a former edge machine are replaced.
    pub fn announce(&mut self) -> Result<(), ArpError> {
        let frame = arp_frame(REQUEST, BROADCAST, self.mac, self.address, [0; 6], self.address);
        self.send(&frame).map(|_| ())
    }

    /// Answers what has arrived, at most 64 frames; call again while the descriptor is readable. Never waits.
    pub fn on_readable(&mut self) -> Result<(), ArpError> {
        let mut buffer = [0u8; PADDED_FRAME_LEN];
        for _ in 0..FRAMES_PER_CALL_MAX {
            let received = self.socket.receive(&mut buffer);
            let received = received.map_err(|source| ArpError::Io { interface: self.interface, source })?;
            let Some(received) = received else { break };
            let length = received.length.min(buffer.len());
            self.on_frame(buffer.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }

    /// What was seen so far.
    pub const fn counters(&self) -> ArpCounters {
        self.counters
    }

    fn on_frame(&mut self, frame: &[u8]) -> Result<(), ArpError> {
        match judge(frame, self.address, self.mac) {
            Verdict::Answer { mac, address } => {
                if !self.budget.take(Instant::now()) {
                    self.counters.limited += 1;
                    return Ok(());
                }
                let sent = self.send(&arp_frame(REPLY, mac, self.mac, self.address, mac, address))?;
                *(if sent { &mut self.counters.answered } else { &mut self.counters.unsent }) += 1;
            }
            Verdict::Conflict => self.counters.conflicts += 1,
            Verdict::Malformed => self.counters.malformed += 1,
            Verdict::NotOurs => {}
        }
        Ok(())
    }

    /// `false` if the interface has no room: the asker asks again.
    fn send(&self, frame: &[u8]) -> Result<bool, ArpError> {
        match self.socket.send(frame) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(false),
            Err(source) => Err(ArpError::Io { interface: self.interface, source }),
        }
    }
}

impl AsFd for ArpResponder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open_socket(interface: u32, address: Ipv4Addr) -> io::Result<RawSocket> {
    // Protocol 0 receives nothing until it is bound, so the filter is in place before the first frame.
    let socket = RawSocket::open(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    socket.attach_filter(&mut about_address(address))?;
    socket.bind_packet(interface, ETHERTYPE_ARP)?;
    Ok(socket)
}

/// Classic BPF: only frames that ask for the address or claim it wake this process.
fn about_address(address: Ipv4Addr) -> [libc::sock_filter; 6] {
    let wanted = u32::from(address);
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load_word = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let jump_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    [
        op(load_word, 38, 0, 0), // target address
        op(jump_equal, wanted, 2, 0),
        op(load_word, 28, 0, 0), // sender address
        op(jump_equal, wanted, 0, 1),
        op(libc::BPF_RET | libc::BPF_K, u32::MAX, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Answer { mac: MacAddress, address: Ipv4Addr },
    Conflict,
    Malformed,
    NotOurs,
}

/// What a frame wants from the holder of `service` at `own_mac`.
fn judge(frame: &[u8], service: Ipv4Addr, own_mac: MacAddress) -> Verdict {
    let Some((header, arp)) = frame.get(..FRAME_LEN).and_then(|frame| frame.split_at_checked(14)) else {
        return Verdict::Malformed;
    };
    let (Some(mac), Some(sender), Some(target)) = (array::<6>(arp, 8), array::<4>(arp, 14), array::<4>(arp, 24)) else {
        return Verdict::Malformed;
    };
    if array::<2>(header, 12) != Some(ETHERTYPE_ARP.to_be_bytes()) || array::<6>(arp, 0) != Some(ARP_ETHERNET_IPV4) {
        return Verdict::Malformed;
    }
    if Ipv4Addr::from(sender) == service {
        return if mac == own_mac { Verdict::NotOurs } else { Verdict::Conflict };
    }
    let is_request = array::<2>(arp, 6) == Some([0, REQUEST]);
    if !is_request || Ipv4Addr::from(target) != service {
        return Verdict::NotOurs;
    }
    // An answer to a group address, or to nobody, would reach more than the asker.
    if mac.first().is_none_or(|first| first & 1 != 0) || mac == [0; 6] {
        return Verdict::Malformed;
    }
    Verdict::Answer { mac, address: sender.into() }
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..)?.first_chunk().copied()
}

fn arp_frame(
    operation: u8,
    to: MacAddress,
    sender_mac: MacAddress,
    sender: Ipv4Addr,
    target_mac: MacAddress,
    target: Ipv4Addr,
) -> [u8; PADDED_FRAME_LEN] {
    let mut frame = [0u8; PADDED_FRAME_LEN];
    let mut at = 0;
    let parts: [&[u8]; 9] = [
        &to,
        &sender_mac,
        &ETHERTYPE_ARP.to_be_bytes(),
        &ARP_ETHERNET_IPV4,
        &[0, operation],
        &sender_mac,
        &sender.octets(),
        &target_mac,
        &target.octets(),
    ];
    for part in parts {
        frame[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    frame
}

/// A token bucket: refilled with time, never above the burst.
#[derive(Debug)]
struct AnswerBudget {
    left: u32,
    refilled: Instant,
}

impl AnswerBudget {
    const fn new(now: Instant) -> Self {
        Self { left: ANSWER_BURST_MAX, refilled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let micros_per_answer = u128::from(1_000_000 / ANSWERS_PER_SECOND_MAX);
        let earned = now.saturating_duration_since(self.refilled).as_micros() / micros_per_answer;
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(ANSWER_BURST_MAX);
            self.refilled = now;
        }
        let has = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
    const ASKER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
    const OWN: MacAddress = [2, 0, 0, 0, 0, 1];
    const OTHER: MacAddress = [2, 0, 0, 0, 0, 2];

    fn request(mac: MacAddress, from: Ipv4Addr, target: Ipv4Addr) -> [u8; PADDED_FRAME_LEN] {
        arp_frame(REQUEST, BROADCAST, mac, from, [0; 6], target)
    }

    #[test]
    fn answers_requests_for_the_service_only() {
        let wanted = Verdict::Answer { mac: OTHER, address: ASKER };
        assert_eq!(judge(&request(OTHER, ASKER, SERVICE), SERVICE, OWN), wanted);
        assert_eq!(judge(&request(OTHER, ASKER, ASKER), SERVICE, OWN), Verdict::NotOurs);
        let probe = Verdict::Answer { mac: OTHER, address: Ipv4Addr::UNSPECIFIED };
        assert_eq!(judge(&request(OTHER, Ipv4Addr::UNSPECIFIED, SERVICE), SERVICE, OWN), probe);
        let reply = arp_frame(REPLY, OWN, OTHER, ASKER, OWN, SERVICE);
        assert_eq!(judge(&reply, SERVICE, OWN), Verdict::NotOurs);
    }

    #[test]
    fn somebody_elses_claim_is_a_conflict() {
        assert_eq!(judge(&request(OTHER, SERVICE, SERVICE), SERVICE, OWN), Verdict::Conflict);
        assert_eq!(judge(&request(OWN, SERVICE, SERVICE), SERVICE, OWN), Verdict::NotOurs);
    }

    #[test]
    fn hostile_frames_are_refused_at_every_length() {
        let whole = request(OTHER, ASKER, SERVICE);
        for length in 0..FRAME_LEN {
            assert_eq!(judge(&whole[..length], SERVICE, OWN), Verdict::Malformed, "length {length}");
        }
        assert_eq!(judge(&request(BROADCAST, ASKER, SERVICE), SERVICE, OWN), Verdict::Malformed);
        assert_eq!(judge(&request([0; 6], ASKER, SERVICE), SERVICE, OWN), Verdict::Malformed);
        for at in 12..20 {
            let mut bent = whole;
            bent[at] ^= 0x10;
            assert_eq!(judge(&bent, SERVICE, OWN), Verdict::Malformed, "byte {at}");
        }
    }

    #[test]
    fn the_budget_holds_and_refills() {
        let start = Instant::now();
        let mut budget = AnswerBudget::new(start);
        let granted = (0..5_000).filter(|_| budget.take(start)).count();
        assert_eq!(granted, usize::try_from(ANSWER_BURST_MAX).unwrap());
        assert!(budget.take(start + Duration::from_millis(1)));
        assert!(!budget.take(start + Duration::from_millis(1)));
    }
}
