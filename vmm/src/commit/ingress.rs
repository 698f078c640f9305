//! Inbound frames that the guest must not see yet, or may need again: mirror and gate.
//!
//! The *mirror* gives a standby's VMM a copy of its groups' inbound packets. The *gate* keeps a group's input from the
//! guest until its slices are plugged. Both put frames into the same store; after plug they are replayed in order.
//!
//! Bounds and what happens at them: one window per flow, highest sequence dropped first; a number of bytes per VMM, where
//! a flow gives up its own highest sequence and never another's; a number of flows with a slice (no more are
//! tracked, their clients send again); a smaller number without one, of which the longest idle is dropped.

use super::flow_store::{FlowLimits, FlowStore, Kept};
use super::frame::{Frame, Source, parse};
use super::frame_pool::FramePool;
use super::metrics::IngressMetrics;
use super::protected_ports::ProtectedPorts;
use super::segment::Segment;
use escape_abi::message::Flow;
use std::collections::{HashMap, VecDeque};

/// Bounds of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressLimits {
    /// Of one flow.
    pub flow: FlowLimits,
    /// Bytes of buffers of all flows.
    pub vmm_bytes_max: usize,
    /// Flows with a slice.
    pub known_flows_max: usize,
    /// Flows without one.
    pub unknown_flows_max: usize,
    /// Idle time after which a flow without a slice is forgotten, microseconds.
    pub unknown_idle_us_max: u64,
}

impl Default for IngressLimits {
    /// 64 MiB a VMM; 65,536 slices; 4,096 other flows for 5 s.
    fn default() -> Self {
        Self {
            flow: FlowLimits::default(),
            vmm_bytes_max: 64 << 20,
            known_flows_max: 65_536,
            unknown_flows_max: 4_096,
            unknown_idle_us_max: 5_000_000,
        }
    }
}

/// What to do with a frame from the main interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Give it to the guest. A segment of a protected port comes with its parsed form: a pure SYN is to be told to the
    /// valve, a flow with a tombstone to be answered.
    ToGuest(Option<Segment>),
    /// It is kept for later.
    Stored,
    /// It is of no use, or over a bound: counted and dropped. TCP sends it again if it matters.
    Dropped,
}

/// How far a replay came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// All frames were given out; the flow has left the store: from now on it shall not be gated.
    Done {
        /// Frames given out.
        frames: usize,
    },
    /// The guest took no more for now; the flow stays gated.
    Blocked {
        /// Frames given out.
        frames: usize,
        /// Frames left.
        left: usize,
    },
}

#[derive(Debug)]
struct FlowEntry {
    store: FlowStore,
    touched_us: u64,
    /// Names this use of the flow in [`IngressStore::unknown`]: a forgotten flow may come back.
    serial: u64,
}

/// A flow without a slice, in order of the time at which it was last looked at.
#[derive(Debug)]
struct UnknownFlow {
    flow: Flow,
    serial: u64,
    touched_us: u64,
}

/// The store of one VMM.
#[derive(Debug)]
pub struct IngressStore {
    protected_ports: ProtectedPorts,
    service_ip: [u8; 4],
    limits: IngressLimits,
    flows: HashMap<Flow, FlowEntry>,
    known_flows: usize,
    /// At most twice `unknown_flows_max`: entries of flows that have left are skipped, and swept at that length.
    unknown: VecDeque<UnknownFlow>,
    pool: FramePool,
    next_serial: u64,
    metrics: IngressMetrics,
}

impl IngressStore {
    /// An empty store for TCP to `service_ip` and the protected ports.
    pub fn new(service_ip: [u8; 4], protected_ports: ProtectedPorts, limits: IngressLimits) -> Self {
        Self {
            protected_ports,
            service_ip,
            pool: FramePool::new(limits.vmm_bytes_max),
            limits,
            flows: HashMap::new(),
            known_flows: 0,
            unknown: VecDeque::new(),
            next_serial: 0,
            metrics: IngressMetrics::default(),
        }
    }

    /// Counters.
    pub fn metrics(&self) -> &IngressMetrics {
        &self.metrics
    }

    /// Bytes of buffers in use.
    pub fn held_bytes(&self) -> usize {
        self.pool.in_use_bytes()
    }

    /// Flows in the store: with a slice, without.
    pub fn flows(&self) -> (usize, usize) {
        (self.known_flows, self.flows.len() - self.known_flows)
    }

    /// Frames kept for a flow.
    pub fn kept(&self, flow: &Flow) -> usize {
        self.flows.get(flow).map_or(0, |entry| entry.store.len())
    }

    /// When a frame of this flow last came, kept or not; `None` if the store does not know it.
    pub fn last_seen_us(&self, flow: &Flow) -> Option<u64> {
        self.flows.get(flow).map(|entry| entry.touched_us)
    }

    /// A frame from the mirror's interface. Never goes to the guest.
    pub fn mirror_frame(&mut self, frame: &[u8], now: u64) -> Inbound {
        match self.protected_segment(frame) {
            Ok(Some(segment)) => self.keep(&segment, frame, now),
            Ok(None) => self.useless(),
            Err(()) => self.unparsable(),
        }
    }

    /// A frame from the main interface: kept while `gated` says so of its flow, else it goes to the guest.
    pub fn on_inbound(&mut self, frame: &[u8], now: u64, gated: impl Fn(&Flow) -> bool) -> Inbound {
        match self.protected_segment(frame) {
            Ok(Some(segment)) if gated(&segment.flow) => self.keep(&segment, frame, now),
            Ok(segment) => {
                self.metrics.to_guest += 1;
                Inbound::ToGuest(segment)
            }
            Err(()) => self.unparsable(),
        }
    }

    /// The segment, if the frame is one for a protected port; an error if that cannot be told.
    fn protected_segment(&self, frame: &[u8]) -> Result<Option<Segment>, ()> {
        match parse(frame, Source::Client) {
            Frame::Tcp(s) if s.service_ip == self.service_ip && self.protected_ports.contains(s.flow.service_port) => {
                Ok(Some(s))
            }
            Frame::Unparsable(_) => Err(()),
            _ => Ok(None),
        }
    }

    fn unparsable(&mut self) -> Inbound {
        self.metrics.unparsable += 1;
        Inbound::Dropped
    }

    fn useless(&mut self) -> Inbound {
        self.metrics.useless += 1;
        Inbound::Dropped
    }

    fn keep(&mut self, segment: &Segment, frame: &[u8], now: u64) -> Inbound {
        if !self.flows.contains_key(&segment.flow) {
            self.add_unknown(segment.flow, now);
        }
        let Some(entry) = self.flows.get_mut(&segment.flow) else { return self.useless() };
        entry.touched_us = now;
        let count = match entry.store.keep(segment, frame, &self.limits.flow, &mut self.pool) {
            Kept::Yes => {
                self.metrics.stored += 1;
                return Inbound::Stored;
            }
            Kept::Useless => &mut self.metrics.useless,
            Kept::BeyondWindow => &mut self.metrics.beyond_window,
            Kept::OverFlowLimit => &mut self.metrics.over_flow_limit,
            Kept::OverVmmLimit => &mut self.metrics.over_vmm_limit,
        };
        *count += 1;
        Inbound::Dropped
    }

    fn add_unknown(&mut self, flow: Flow, now: u64) {
        if self.flows.len() - self.known_flows >= self.limits.unknown_flows_max {
            self.drop_longest_idle();
        }
        if self.unknown.len() >= 2 * self.limits.unknown_flows_max {
            let flows = &self.flows;
            self.unknown.retain(|u| flows.get(&u.flow).is_some_and(|e| e.serial == u.serial && !e.store.is_known()));
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.flows.insert(flow, FlowEntry { store: FlowStore::default(), touched_us: now, serial });
        self.unknown.push_back(UnknownFlow { flow, serial, touched_us: now });
    }

    /// Forgets the flow without a slice that has been idle for longest. A flow that was touched since its place in the
    /// line was given goes to the line's end instead: one look per flow and touch, no list to keep at every frame.
    fn drop_longest_idle(&mut self) {
        for _ in 0..self.unknown.len() {
            let Some(oldest) = self.unknown.pop_front() else { return };
            let Some(touched_us) = self.touched_since(&oldest) else { continue };
            if touched_us > oldest.touched_us {
                self.unknown.push_back(UnknownFlow { touched_us, ..oldest });
                continue;
            }
            self.remove(&oldest.flow);
            self.metrics.flows_expired += 1;
            return;
        }
    }

    /// When an entry of the line was last touched; `None` if it has left the store or got a slice.
    fn touched_since(&self, entry: &UnknownFlow) -> Option<u64> {
        let current = self.flows.get(&entry.flow)?;
        (current.serial == entry.serial && !current.store.is_known()).then_some(current.touched_us)
    }

    /// Forgets flows without a slice that have been idle for too long. To be called now and then.
    pub fn expire(&mut self, now: u64) {
        let limit = now.saturating_sub(self.limits.unknown_idle_us_max);
        for _ in 0..self.unknown.len() {
            if self.unknown.front().is_none_or(|u| u.touched_us >= limit) {
                return;
            }
            let Some(oldest) = self.unknown.pop_front() else { return };
            match self.touched_since(&oldest) {
                Some(touched_us) if touched_us >= limit => self.unknown.push_back(UnknownFlow { touched_us, ..oldest }),
                Some(_) => {
                    self.remove(&oldest.flow);
                    self.metrics.flows_expired += 1;
                }
                None => {}
            }
        }
    }

    /// A checkpoint of the flow's slice was applied here: its bytes before `rcv_nxt` need no replay. Makes the flow known.
    /// Returns false if no more flows can be tracked: its clients will have to send again after a failover.
    pub fn covered(&mut self, flow: Flow, rcv_nxt: u32, now: u64) -> bool {
        let was_known = self.flows.get(&flow).is_some_and(|entry| entry.store.is_known());
        if !was_known {
            if self.known_flows >= self.limits.known_flows_max {
                return false;
            }
            self.known_flows += 1;
        }
        let serial = self.next_serial;
        let entry = self.flows.entry(flow).or_insert_with(|| FlowEntry {
            store: FlowStore::default(),
            touched_us: now,
            serial,
        });
        self.next_serial += u64::from(entry.serial == serial);
        self.metrics.covered += entry.store.cover(rcv_nxt, &mut self.pool) as u64;
        true
    }

    /// The flow's slice is gone from here: drops what is kept.
    pub fn forget(&mut self, flow: &Flow) {
        self.remove(flow);
    }

    /// Opens the gate for one flow: gives the kept frames to `deliver` in the order in which the guest should see them,
    /// until it returns false. To be called again after [`Replay::Blocked`].
    pub fn replay(&mut self, flow: &Flow, deliver: &mut impl FnMut(&[u8]) -> bool) -> Replay {
        let Some(entry) = self.flows.get_mut(flow) else { return Replay::Done { frames: 0 } };
        let frames = entry.store.replay(&mut self.pool, deliver);
        self.metrics.replayed += frames as u64;
        let left = entry.store.len();
        if left > 0 {
            return Replay::Blocked { frames, left };
        }
        self.remove(flow);
        Replay::Done { frames }
    }

    fn remove(&mut self, flow: &Flow) {
        if let Some(mut entry) = self.flows.remove(flow) {
            self.known_flows -= usize::from(entry.store.is_known());
            entry.store.clear(&mut self.pool);
        }
    }
}

#[cfg(test)]
#[path = "ingress_tests.rs"]
mod tests;
