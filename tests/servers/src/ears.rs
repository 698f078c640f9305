//! The handshake, as the host sees it.

use crate::{LIMIT, PORT};
use escape_abi::OpeningNumbers;
use escape_vmm::commit::{Frame, Segment, Source, SynOptions, parse};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Hears every TCP packet of this network.
pub struct Ears(OwnedFd);

impl Ears {
    /// Of the calling thread's network.
    pub fn open() -> Self {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
        Self(socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::TCP)).unwrap())
    }

    /// A SYN of this source, and its frame.
    fn syn(&self, source: Source, answer: bool) -> (Segment, Vec<u8>) {
        let begun = Instant::now();
        let mut packet = [0u8; 65_536];
        loop {
            assert!(begun.elapsed() < LIMIT, "not heard");
            let got = rustix::net::recv(&self.0, &mut packet[..], rustix::net::RecvFlags::DONTWAIT);
            let Ok((_, len)) = got else { continue };
            let frame = [&[0; 12][..], &[2; 12], &[8, 0], &packet[..len]].concat();
            if let Frame::Tcp(segment) = parse(&frame, source)
                && segment.flow.service_port == PORT
                && segment.flags.syn()
                && segment.flags.ack() == answer
            {
                return (segment, frame);
            }
        }
    }

    /// What both SYNs of a connection agreed.
    pub fn opening(&self) -> OpeningNumbers {
        let (syn, syn_frame) = self.syn(Source::Client, false);
        let (answer, answer_frame) = self.syn(Source::Guest, true);
        let offered = SynOptions::of(&syn_frame, &syn);
        offered.agree(&SynOptions::of(&answer_frame, &answer), answer.seq, syn.seq)
    }
}
