//! A whole capture, connection by connection.

use super::frame::{ACK, RST, Segment};
use super::pcap::Pcap;
use super::server_flow::{Contradiction, ServerFlow};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Judges what a service sent.
#[derive(Debug)]
pub struct Judge {
    service: Ipv4Addr,
    /// By the service's port and the client.
    flows: BTreeMap<(u16, SocketAddrV4), ServerFlow>,
    seen: Seen,
}

/// What a capture shows of a service.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Connections on which the service sent something.
    pub flows: usize,
    /// Its segments.
    pub segments: u64,
    /// Different bytes that it sent.
    pub bytes: u64,
    /// Bytes that came more than once, and were compared.
    pub repeated: u64,
    /// Segments with RST.
    pub resets: u64,
    /// Frames that were cut short: nothing is proved then.
    pub cut_short: u64,
    /// What cannot be, with its connection; at most so many as are told.
    pub contradictions: Vec<(SocketAddrV4, Contradiction)>,
}

/// Contradictions that are kept; one is enough.
const TOLD_MAX: usize = 20;

impl Judge {
    /// For the service at this address.
    pub const fn new(service: Ipv4Addr) -> Self {
        let seen =
            Seen { flows: 0, segments: 0, bytes: 0, repeated: 0, resets: 0, cut_short: 0, contradictions: Vec::new() };
        Self { service, flows: BTreeMap::new(), seen }
    }

    /// Looks through a capture.
    pub fn judge(mut self, capture: Pcap<'_>) -> Seen {
        for frame in capture {
            match frame.map(Segment::parse) {
                Ok(Some(segment)) if *segment.from.ip() == self.service => self.take(&segment),
                Ok(Some(segment)) if *segment.to.ip() == self.service && segment.flags & ACK != 0 => {
                    let flow = self.flows.entry((segment.to.port(), segment.from)).or_default();
                    flow.acknowledge(segment.ack);
                }
                Ok(_) => {}
                Err(_) => self.seen.cut_short += 1,
            }
        }
        self.seen.flows = self.flows.len();
        self.seen.bytes = self.flows.values().map(ServerFlow::seen).sum();
        self.seen.repeated = self.flows.values().map(|flow| flow.repeated).sum();
        self.seen
    }

    fn take(&mut self, segment: &Segment<'_>) {
        self.seen.segments += 1;
        if segment.flags & RST != 0 {
            self.seen.resets += 1;
            return;
        }
        let flow = self.flows.entry((segment.from.port(), segment.to)).or_default();
        if let Err(found) = flow.take(segment)
            && self.seen.contradictions.len() < TOLD_MAX
        {
            self.seen.contradictions.push((segment.to, found));
        }
    }
}
