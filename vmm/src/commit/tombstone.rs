//! Tombstones: what is left of a closed slice, so that TIME-WAIT holds no slot.
//!
//! For 30 s the VMM answers the client's late segments itself: a client whose last acknowledgement was lost sends its FIN
//! again, and must get an ACK, not silence and not an RST. Who sends more than the slice has ever taken, or to a slice that was given up, gets
//! an RST: nobody will take it, and silence would let the client wait for minutes.

use super::answer_frame::{ANSWER_FRAME_LEN, ack_frame, reset_frame};
use super::metrics::TombstoneMetrics;
use super::segment::Segment;
use super::sequence::before;
use super::slice_id::SliceId;
use escape_abi::message::Flow;
use std::collections::{HashMap, VecDeque};

/// How long a tombstone stands, microseconds.
pub const TOMBSTONE_US: u64 = 30_000_000;
/// Most tombstones; the oldest goes for a new one.
pub const TOMBSTONES_MAX: usize = 16_384;
/// A client that is reset has acknowledged all of the slice's output but so much at the most: more than a slice has room for.
const RESET_NEAR: u32 = 1 << 20;
/// Bytes of a tombstone on the wire.
pub const TOMBSTONE_LEN: usize = 40;

/// A closed connection: 40 bytes on the wire (flow 8, slot 4, final numbers 8, incarnation 8, age 8, reserved 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The slice that was.
    pub slice: SliceId,
    /// Its flow.
    pub flow: Flow,
    /// Sequence number after the slice's last.
    pub snd_nxt: u32,
    /// Next number expected from the client.
    pub rcv_nxt: u32,
}

impl Tombstone {
    /// The wire form, with its remaining time in microseconds: clocks of nodes are not comparable.
    pub fn to_bytes(&self, left_us: u64) -> [u8; TOMBSTONE_LEN] {
        let mut bytes = [0; TOMBSTONE_LEN];
        let fields: [&[u8]; 8] = [
            &self.flow.ip,
            &self.flow.port.to_le_bytes(),
            &self.flow.service_port.to_le_bytes(),
            &self.slice.slot.to_le_bytes(),
            &self.snd_nxt.to_le_bytes(),
            &self.rcv_nxt.to_le_bytes(),
            &self.slice.incarnation.to_le_bytes(),
            &left_us.to_le_bytes(),
        ];
        bytes.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Reads the wire form: the tombstone and its remaining time, at most [`TOMBSTONE_US`].
    pub fn from_bytes(bytes: &[u8; TOMBSTONE_LEN]) -> Option<(Self, u64)> {
        let u16_at = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let flow = Flow { ip: *bytes.first_chunk()?, port: u16_at(4)?, service_port: u16_at(6)? };
        let slice = SliceId { slot: u32_at(8)?, incarnation: u64_at(20)? };
        let tombstone = Self { slice, flow, snd_nxt: u32_at(12)?, rcv_nxt: u32_at(16)? };
        (u32_at(36)? == 0).then_some((tombstone, u64_at(28)?.min(TOMBSTONE_US)))
    }
}

/// What to do with an inbound segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TombstoneAnswer {
    /// No tombstone of this flow: the segment is the guest's.
    NoTombstone,
    /// A new connection of the same flow; its tombstone is gone, the segment is the guest's.
    Reopened,
    /// Send this frame (virtio-net header first) to the client; the guest does not see the segment.
    Answer([u8; ANSWER_FRAME_LEN]),
    /// Say nothing; the guest does not see the segment.
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    tombstone: Tombstone,
    /// The slice did not end, it was given up.
    given_up: bool,
    until_us: u64,
}

/// The tombstones of one VMM, its own and its peers'. Bounded by [`TOMBSTONES_MAX`].
#[derive(Debug)]
pub struct Tombstones {
    service_mac: [u8; 6],
    by_flow: HashMap<Flow, Standing>,
    /// Flow and end of each tombstone in the order in which they were laid; entries of replaced ones are skipped.
    order: VecDeque<(Flow, u64)>,
    metrics: TombstoneMetrics,
}

impl Tombstones {
    /// None yet. Answers carry `service_mac` as their source.
    pub fn new(service_mac: [u8; 6]) -> Self {
        Self { service_mac, by_flow: HashMap::new(), order: VecDeque::new(), metrics: TombstoneMetrics::default() }
    }

    /// Counters.
    pub fn metrics(&self) -> &TombstoneMetrics {
        &self.metrics
    }

    /// Tombstones that stand.
    pub fn len(&self) -> usize {
        self.by_flow.len()
    }

    /// None stands.
    pub fn is_empty(&self) -> bool {
        self.by_flow.is_empty()
    }

    /// Lays a tombstone for `left_us` more: [`TOMBSTONE_US`] when a CLOSE was acknowledged here, what is left of it when it
    /// comes from a peer.
    pub fn lay(&mut self, tombstone: Tombstone, left_us: u64, now: u64) {
        self.stand(tombstone, false, left_us, now);
    }

    /// The same for a slice that was given up.
    pub fn lay_given_up(&mut self, tombstone: Tombstone, now: u64) {
        self.stand(tombstone, true, TOMBSTONE_US, now);
    }

    fn stand(&mut self, tombstone: Tombstone, given_up: bool, left_us: u64, now: u64) {
        self.expire(now);
        while self.order.len() >= TOMBSTONES_MAX {
            let dropped = self.drop_first();
            self.metrics.dropped_early += u64::from(dropped);
        }
        let until_us = now.saturating_add(left_us.min(TOMBSTONE_US));
        self.by_flow.insert(tombstone.flow, Standing { tombstone, given_up, until_us });
        self.order.push_back((tombstone.flow, until_us));
        self.metrics.laid += 1;
    }

    /// The tombstone of a flow, and how long it still stands.
    pub fn get(&self, flow: &Flow, now: u64) -> Option<(&Tombstone, u64)> {
        let standing = self.by_flow.get(flow).filter(|s| s.until_us > now)?;
        Some((&standing.tombstone, standing.until_us - now))
    }

    /// Decides about a segment from a client (RFC 9293, section 3.10.7.4, state TIME-WAIT, and 3.10.7.1, state CLOSED; RFC 6191 for the new SYN).
    pub fn answer(&mut self, segment: &Segment, now: u64) -> TombstoneAnswer {
        let standing = self.by_flow.get(&segment.flow).filter(|s| s.until_us > now);
        let Some(Standing { tombstone: Tombstone { snd_nxt, rcv_nxt, .. }, given_up, .. }) = standing.copied() else {
            return TombstoneAnswer::NoTombstone;
        };
        if segment.flags.pure_syn() && before(rcv_nxt, segment.seq) {
            self.by_flow.remove(&segment.flow);
            self.metrics.reopened += 1;
            return TombstoneAnswer::Reopened;
        }
        // A keep-alive probe has no length but an old sequence number. An up-to-date ACK gets no answer, or two
        // closed ends would acknowledge each other for ever.
        let asks = segment.seq_len() > 0 || before(segment.seq, rcv_nxt);
        let beyond = segment.seq_len() > 0 && before(rcv_nxt, segment.seq_end());
        if segment.flags.rst() || !(asks || given_up) {
            self.metrics.silent += 1;
            return TombstoneAnswer::Silent;
        }
        if !(beyond || given_up) {
            self.metrics.answered += 1;
            return TombstoneAnswer::Answer(ack_frame(segment, self.service_mac, snd_nxt, rcv_nxt));
        }
        // What it expects next it says itself. It is no later connection of the same ports, whose numbers would be others.
        if !segment.flags.ack() || snd_nxt.wrapping_sub(segment.ack) > RESET_NEAR {
            self.metrics.silent += 1;
            return TombstoneAnswer::Silent;
        }
        self.metrics.reset += 1;
        TombstoneAnswer::Answer(reset_frame(segment, self.service_mac, segment.ack))
    }

    /// Drops tombstones whose time is over.
    pub fn expire(&mut self, now: u64) {
        while self.order.front().is_some_and(|(_, until_us)| *until_us <= now) {
            self.drop_first();
        }
    }

    /// Drops the entry that was laid first; says whether a standing tombstone went with it.
    fn drop_first(&mut self) -> bool {
        let Some((flow, until_us)) = self.order.pop_front() else { return false };
        self.by_flow.get(&flow).is_some_and(|s| s.until_us == until_us) && self.by_flow.remove(&flow).is_some()
    }
}

#[cfg(test)]
#[path = "tombstone_tests.rs"]
mod tests;
