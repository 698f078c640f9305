//! What the platform calls.

mod counters;
mod defer;
mod messages;
mod open;
mod run;

pub use counters::Counters;

use crate::frame::{RST, SYN, Segment, arp_reply};
use crate::host::Host;
use crate::memory::Memory;
use crate::pool::SlotPool;
use crate::session::SessionLayer;
use crate::tcp::{TcpEvent, TcpLayer};
use crate::timers::Timers;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use defer::Deferred;
use escape_abi::{BootParams, HostMessage};

/// [`Server::referenced`] when nothing is.
const NO_SLOT: u32 = u32::MAX;
/// When a held slice is tried again, us.
const RETRY_US: i64 = 20;
/// When a full way out is tried again, us. The host takes a ring of frames in about that time; a guest that looked more often would
/// take the processor from it.
const FULL_RETRY_US: i64 = 500;

/// What this guest notes per slot beside the slot.
#[derive(Clone, Copy, Debug, Default)]
struct SlotNote {
    /// Places whose connection is in SYN-RECEIVED, one bit each.
    embryonic: u16,
    /// Changed without output since the host was last told.
    changed: bool,
    /// Incarnation that was poisoned and that the host has not given up yet; 0 = none.
    poisoned: u64,
}

/// The session server: all slices of this guest.
///
/// A turn of the platform: [`Self::on_message`] for each message, [`Self::on_frame`] for each frame of a batch, then [`Self::on_timers`];
/// then the frames that [`Host::transmit`] was given are made visible together, so that the host finds every slice at rest.
pub struct Server<H: Host> {
    tcp: TcpLayer<H>,
    session: SessionLayer,
    memory: Memory,
    pool: SlotPool,
    timers: Timers,
    deferred: Deferred,
    notes: Vec<SlotNote>,
    /// Slots whose note may say `changed`; at most one entry per slot and batch.
    changed: Vec<u32>,
    embryonic: usize,
    referenced: AtomicU32,
    counters: Counters,
    params: BootParams,
    seed: u64,
}

impl<H: Host> Server<H> {
    /// A server without slots: it takes connections once it has a lease. `seed` must come from real entropy and differ in every boot:
    /// initial sequence numbers are made from it.
    pub fn new(params: &BootParams, seed: u64, memory: Memory, host: H) -> Self {
        let n_slots = memory.n_slots();
        let mut tcp = TcpLayer::new(memory, host, params.ip, params.mac, params.image_id, seed);
        tcp.attached.set_per_client(params.slice_per_client != 0);
        Self {
            tcp,
            session: SessionLayer::new(memory, params, seed.rotate_left(32)),
            memory,
            pool: SlotPool::new(n_slots),
            timers: Timers::new(n_slots),
            deferred: Deferred::default(),
            notes: vec![SlotNote::default(); n_slots as usize],
            changed: Vec::new(),
            embryonic: 0,
            referenced: AtomicU32::new(NO_SLOT),
            counters: Counters::default(),
            params: *params,
            seed: seed.rotate_left(31) ^ 0x5eed_0f15_11ce_5000,
        }
    }

    /// The platform.
    pub fn host(&mut self) -> &mut H {
        &mut self.tcp.wire.host
    }

    /// Inbound checksums are right already (checksum offload, or a trusted wire): they are not verified again. Off at first.
    pub fn trust_rx_checksums(&mut self, trust: bool) {
        self.tcp.trust_rx_checksums(trust);
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let wire = &self.tcp.wire;
        Counters { resets_suppressed: wire.resets_suppressed, frames_lost: wire.frames_lost, ..self.counters }
    }

    /// Slices that are attached here.
    pub fn sessions(&self) -> usize {
        self.tcp.attached.len()
    }

    /// The slot that is referenced now, for a fault handler.
    pub fn referenced(&self) -> Option<u32> {
        Some(self.referenced.load(Ordering::Acquire)).filter(|slot| *slot != NO_SLOT)
    }

    /// An Ethernet frame without virtio header.
    pub fn on_frame(&mut self, frame: &[u8]) {
        self.counters.frames_in += 1;
        let Some(segment) = Segment::parse(frame, self.params.ip) else {
            match arp_reply(frame, self.params.mac, self.params.ip) {
                Some(reply) => self.tcp.wire.send_frame(&reply),
                None => self.counters.not_for_us += 1,
            }
            return;
        };
        match self.tcp.attached.of_flow(segment.flow) {
            None if segment.is_pure_syn() => self.open(&segment, frame),
            None => self.counters.unknown_flow += 1,
            Some((slot, _)) if self.deferred.has(slot) => self.defer_frame(slot, frame),
            Some((slot, place)) => {
                if self.deliver(slot, place, &segment).is_err() {
                    self.defer_frame(slot, frame);
                }
            }
        }
    }

    /// A segment of a slice that is attached here.
    fn deliver(&mut self, slot: u32, place: usize, segment: &Segment<'_>) -> Result<(), escape_capsule::SliceError> {
        if segment.flags & (RST | SYN) == 0 {
            return self.run(slot, Some(place), TcpEvent::Segment(segment));
        }
        let expected = self.handshake_numbers(slot, place);
        let wanted = if segment.flags & RST != 0 {
            self.counters.wrong_rst += u64::from(segment.seq != expected.next);
            segment.seq == expected.next
        } else {
            // The same SYN again: its answer was lost. Another one: the peer has forgotten this connection, and a challenge makes it say so.
            self.counters.wrong_syn += u64::from(segment.seq != expected.first);
            segment.seq == expected.first
        };
        if wanted {
            self.run(slot, Some(place), TcpEvent::Segment(segment))
        } else if self.tcp.may_challenge(slot) {
            self.run(slot, Some(place), TcpEvent::Challenge)
        } else {
            Ok(())
        }
    }

    /// A message of the host.
    pub fn on_message(&mut self, message: HostMessage) {
        match message {
            HostMessage::Lease { first_slot, generation } => self.pool.lease(first_slot, generation),
            HostMessage::Plug { slot, incarnation } => self.plug(slot, incarnation),
            HostMessage::Unplug { slot, incarnation } => self.unplug(slot, incarnation),
            HostMessage::Discard { slot, incarnation } => self.discard(slot, incarnation),
            HostMessage::SlotFree { slot, incarnation } => self.slot_free(slot, incarnation),
            HostMessage::ConnectionFree { slot, incarnation, flow } => self.connection_free(slot, incarnation, flow),
            // Of kernels that have the TCP connections; here smoltcp answers a SYN when its slot is bound.
            HostMessage::Opening { .. } => {}
        }
    }

    /// Runs what is due, and what was put off; tells the host what changed without output. Returns when it wants to be called again at
    /// the latest, in [`Host::now_us`] time.
    pub fn on_timers(&mut self) -> Option<i64> {
        let flushed = self.tcp.wire.flush();
        self.retry_deferred();
        let now = self.tcp.wire.host.now_us();
        for _ in 0..self.sessions() + 1 {
            // A slice that is run although nothing can leave has changed all the same, and must be copied: the more frames wait for the
            // host, the more work it would get.
            if !self.tcp.wire.has_room() {
                break;
            }
            let Some(slot) = self.timers.pop_due(now) else { break };
            self.on_deadline(slot, now);
        }
        self.tell_changed();
        let again = match (self.deferred.is_empty(), flushed && self.tcp.wire.has_room() && self.changed.is_empty()) {
            (false, _) => now + RETRY_US,
            (true, false) => now + FULL_RETRY_US,
            (true, true) => return self.timers.next(),
        };
        // What is due waits for the way out too.
        Some(self.timers.next().filter(|at| *at > now).unwrap_or(again).min(again))
    }
}
