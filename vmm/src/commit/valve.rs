//! The valve: holds each slice's output until the slice state that the output reveals is committed.
//!
//! The valve also knows which slots have output that no capture covers yet: that list is the reason to checkpoint
//! (commit on output, not on a timer).

mod opening;

use super::bindings::{BindError, Bindings};
use super::connections::Flows;
use super::coverage::{Breach, Coverage};
use super::frame::{Frame, Source, parse};
use super::frame_pool::FramePool;
use super::hold_queue::{HeldFrame, HoldQueue};
use super::metrics::ValveMetrics;
use super::openings::Openings;
use super::segment::Segment;
use super::sequence::near;
use super::slice_id::SliceId;
use super::syn_options::SynOptions;
use super::valve_config::{BreachPolicy, Mode, Rule, ValveConfig};
use super::verdict::{DropCause, Released, Verdict};
use crate::memory::slot_memory::SlotMemory;
use escape_abi::message::Flow;
use std::collections::VecDeque;

#[derive(Debug, Default)]
struct SliceOutput {
    queue: HoldQueue,
    /// Highest need of any frame submitted.
    need_max: u64,
    /// Generation of the last capture.
    captured: Option<u64>,
    committed: Option<Coverage>,
    /// In [`Valve::waiting`].
    in_waiting: bool,
    /// In [`Valve::holding`]; always true while the queue has frames.
    in_holding: bool,
    quarantined: bool,
}

/// The valve of one guest.
#[derive(Debug)]
pub struct Valve {
    config: ValveConfig,
    bindings: Bindings,
    /// Only under [`Rule::Numbers`].
    openings: Openings,
    outputs: Vec<SliceOutput>,
    pool: FramePool,
    /// Slots to capture, each once: bounded by the cell's slots.
    waiting: VecDeque<u32>,
    /// Slots that hold frames (and some that did lately), each once: bounded by the cell's slots.
    holding: Vec<u32>,
    /// The slice that the last submitted frame accused, until the caller asks.
    breached: Option<(SliceId, Breach)>,
    metrics: ValveMetrics,
}

impl Valve {
    /// A valve with no slice bound.
    pub fn new(config: ValveConfig) -> Self {
        let mut outputs = Vec::new();
        outputs.resize_with(config.n_slots as usize, SliceOutput::default);
        Self {
            bindings: Bindings::new(config.n_slots),
            openings: Openings::default(),
            outputs,
            pool: FramePool::new(config.limits.pool_bytes_max()),
            waiting: VecDeque::new(),
            holding: Vec::new(),
            breached: None,
            metrics: ValveMetrics::default(),
            config,
        }
    }

    /// Counters.
    pub fn metrics(&self) -> &ValveMetrics {
        &self.metrics
    }

    /// The flows bound to slices.
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Bytes of buffers that held frames occupy.
    pub fn held_bytes(&self) -> usize {
        self.pool.in_use_bytes()
    }

    /// A SYN of which the options do not matter came in: see [`Bindings::saw_syn`].
    pub fn saw_syn(&mut self, flow: Flow, isn: u32, now: u64) {
        self.bindings.saw_syn(flow, isn, SynOptions::default(), now);
    }

    /// The guest gave a slot to a flow. Take the guest's bindings before its frames: a frame of an unbound flow is dropped.
    pub fn bind(&mut self, slice: SliceId, flow: Flow, now: u64) -> Result<(), BindError> {
        let bound = self.bindings.bind(slice, flow, now).map(|_| ());
        self.start(slice, bound)?;
        self.hold_opening(slice, &flow);
        Ok(())
    }

    /// The guest gave a place in a slice that runs to a flow of the same client.
    pub fn join(&mut self, slice: SliceId, place: usize, flow: Flow, now: u64) -> Result<(), BindError> {
        let joined = self.bindings.join(slice, place, flow, now);
        self.metrics.refused_bindings += u64::from(joined.is_err());
        joined
    }

    /// A connection of the slice has ended, and its last frame was released: its flow is unbound. False: it was not bound.
    pub fn end_connection(&mut self, slice: SliceId, flow: &Flow) -> bool {
        self.bindings.unbind_flow(slice, flow)
    }

    /// A slice with these connections is about to be plugged.
    pub fn bind_plugged(&mut self, slice: SliceId, flows: &Flows) -> Result<(), BindError> {
        let bound = self.bindings.bind_plugged(slice, flows);
        self.start(slice, bound)
    }

    fn start(&mut self, slice: SliceId, bound: Result<(), BindError>) -> Result<(), BindError> {
        if bound.is_err() {
            self.metrics.refused_bindings += 1;
        } else {
            self.clear_output(slice.slot);
        }
        bound
    }

    /// Takes a frame of the guest (virtio-net header first), which the caller has copied out of guest memory already:
    /// the slot word is read here, after that copy, so that `need` covers whatever the frame reveals.
    pub fn submit(&mut self, frame: &[u8], memory: &impl SlotMemory, now: u64) -> Verdict {
        if self.config.mode == Mode::PassThrough {
            self.metrics.passed_through += 1;
            return Verdict::Send;
        }
        let verdict = match parse(frame, Source::Guest) {
            Frame::Tcp(segment) => self.submit_segment(frame, &segment, memory, now),
            Frame::Unparsable(_) => Err(DropCause::Unparsable),
            Frame::Arp | Frame::Other => self.unprotected(),
        };
        verdict.unwrap_or_else(|cause| {
            self.metrics.count_drop(cause);
            Verdict::Dropped(cause)
        })
    }

    /// The slice that the last [`submit`](Self::submit) quarantined because its frame contradicted the committed state;
    /// told once, so that the caller can give the slice up too.
    pub fn take_breached(&mut self) -> Option<(SliceId, Breach)> {
        self.breached.take()
    }

    fn unprotected(&mut self) -> Result<Verdict, DropCause> {
        if !self.config.unprotected_output {
            return Err(DropCause::Unprotected);
        }
        self.metrics.passed_unprotected += 1;
        Ok(Verdict::PassUnprotected)
    }

    fn submit_segment(
        &mut self,
        frame: &[u8],
        segment: &Segment,
        memory: &impl SlotMemory,
        now: u64,
    ) -> Result<Verdict, DropCause> {
        if segment.service_ip != self.config.service_ip {
            return Err(DropCause::Spoofed);
        }
        if !self.config.protected_ports.contains(segment.flow.service_port) {
            return self.unprotected();
        }
        let Some(slice) = self.bindings.slice_of(&segment.flow) else { return self.keep_opening(frame, segment, now) };
        let output = self.outputs.get_mut(slice.slot as usize).ok_or(DropCause::NoSlot)?;
        if output.quarantined {
            return Err(DropCause::Quarantined);
        }
        let need = memory.word(slice.slot).ok_or(DropCause::NoSlot)?.need();
        if let Some(committed) = output.committed {
            let known = committed.connections.of_flow(&segment.flow);
            if !segment.flags.rst() && known.is_some_and(|c| !near(c.snd_nxt, segment.seq_end())) {
                return Err(DropCause::Horizon);
            }
            if output.queue.is_empty() && need <= committed.generation {
                match (self.config.rule.check(&committed, segment), self.config.rule) {
                    (Ok(()), _) => {
                        self.metrics.sent_at_once += 1;
                        return Ok(Verdict::Send);
                    }
                    (Err(breach), Rule::Generation) => {
                        self.breached = Some((slice, breach));
                        self.breach(slice, breach);
                        return Err(DropCause::Quarantined);
                    }
                    // The program has not read that yet; the commit in which it has will say so.
                    (Err(_), Rule::Numbers) => {}
                }
            }
        }
        self.hold(frame, segment, slice, need, now)
    }

    fn hold(
        &mut self,
        frame: &[u8],
        segment: &Segment,
        slice: SliceId,
        need: u64,
        now: u64,
    ) -> Result<Verdict, DropCause> {
        let output = self.outputs.get_mut(slice.slot as usize).ok_or(DropCause::NoSlot)?;
        if output.queue.holds_copy_of(segment) {
            return Err(DropCause::Duplicate);
        }
        let ending = segment.ends_connection();
        let cost = FramePool::cost_of(frame.len()).ok_or(DropCause::Unparsable)?;
        self.config.limits.admit(output.queue.load(), self.pool.in_use_bytes(), cost, ending)?;
        let buffer = self.pool.take(frame).ok_or(DropCause::VmQuota)?;
        self.push_held(slice, HeldFrame { buffer, segment: *segment, need, since_us: now });
        Ok(Verdict::Held { slice, need })
    }

    fn push_held(&mut self, slice: SliceId, frame: HeldFrame) {
        let Some(output) = self.outputs.get_mut(slice.slot as usize) else { return };
        output.need_max = output.need_max.max(frame.need);
        output.queue.push(frame);
        if !output.in_holding {
            output.in_holding = true;
            self.holding.push(slice.slot);
        }
        self.metrics.held += 1;
        self.want_capture_if_needed(slice.slot);
    }

    /// The next slice whose output waits for a capture. The caller captures it and says
    /// [`note_captured`](Self::note_captured), or [`want_capture`](Self::want_capture) to have it again.
    pub fn next_waiting(&mut self) -> Option<SliceId> {
        while let Some(slot) = self.waiting.pop_front() {
            if let Some(output) = self.outputs.get_mut(slot as usize) {
                output.in_waiting = false;
                if let (Some(slice), false) = (self.bindings.in_slot(slot), output.quarantined) {
                    return Some(slice);
                }
            }
        }
        None
    }

    /// Slices that wait for a capture now (an upper bound: slices that were dropped since are skipped later).
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a slice on the list of [`next_waiting`](Self::next_waiting), once: its capture was put off, or its state
    /// changed without output (change message, CLOSE).
    pub fn want_capture(&mut self, slice: SliceId) {
        if self.bindings.in_slot(slice.slot).is_some_and(|live| live == slice) {
            self.push_waiting(slice.slot);
        }
    }

    /// A generation of the slice was captured (not yet committed). If frames wait for a later one, the slice stays on the list.
    pub fn note_captured(&mut self, slice: SliceId, generation: u64) {
        if self.bindings.in_slot(slice.slot).is_some_and(|live| live == slice)
            && let Some(output) = self.outputs.get_mut(slice.slot as usize)
        {
            output.captured = Some(generation);
            self.want_capture_if_needed(slice.slot);
        }
    }

    fn want_capture_if_needed(&mut self, slot: u32) {
        let waits = self
            .outputs
            .get(slot as usize)
            .is_some_and(|o| !o.queue.is_empty() && o.captured.is_none_or(|captured| captured < o.need_max));
        if waits {
            self.push_waiting(slot);
        }
    }

    fn push_waiting(&mut self, slot: u32) {
        if let Some(output) = self.outputs.get_mut(slot as usize)
            && !output.in_waiting
        {
            output.in_waiting = true;
            self.waiting.push_back(slot);
        }
    }

    /// A checkpoint of the slice is committed: gives out what it covers, in order, each frame exactly as it was classified.
    ///
    /// A commit of another incarnation releases nothing. A frame whose numbers contradict the committed state is not
    /// released; it quarantines the slice (or panics: [`BreachPolicy`]).
    pub fn release(&mut self, slot: u32, committed: &Coverage, send: &mut impl FnMut(&[u8])) -> Released {
        let mut released = Released::default();
        let slice = SliceId { slot, incarnation: committed.incarnation };
        if self.bindings.in_slot(slot).is_none_or(|live| live != slice) {
            return released;
        }
        let Some(output) = self.outputs.get_mut(slot as usize).filter(|o| !o.quarantined) else { return released };
        // Acknowledgements may be handed over late, never backwards: an older commit releases by the newer frontier.
        let frontier = match output.committed {
            Some(newer) if newer.generation >= committed.generation => newer,
            _ => *committed,
        };
        output.committed = Some(frontier);
        while let Some(head) = output.queue.covered_head(frontier.generation) {
            if let Err(breach) = self.config.rule.check(&frontier, &head.segment) {
                released.breach = (self.config.rule == Rule::Generation).then_some(breach);
                break;
            }
            send(head.buffer.frame());
            released.frames += 1;
            self.metrics.released += 1;
            self.metrics.released_bytes += head.buffer.frame().len() as u64;
            output.queue.drop_head(&mut self.pool);
        }
        if let Some(breach) = released.breach {
            self.breach(slice, breach);
        }
        released.left = self.outputs.get(slot as usize).map_or(0, |o| o.queue.len());
        released
    }

    fn breach(&mut self, slice: SliceId, breach: Breach) {
        self.metrics.breaches += 1;
        assert!(self.config.on_breach == BreachPolicy::Quarantine, "slice {slice}: {breach} (invariant I1)");
        self.quarantine(slice);
    }

    /// Forgets a slice and its held frames in silence; its flows are unbound. Returns how many frames were dropped.
    pub fn discard(&mut self, slice: SliceId) -> u64 {
        if !self.bindings.unbind(slice) {
            return 0;
        }
        let dropped = self.clear_output(slice.slot);
        self.metrics.discarded += dropped;
        dropped
    }

    /// Drops what the slice holds and everything it sends from now on; its flows stay bound until [`discard`](Self::discard).
    pub fn quarantine(&mut self, slice: SliceId) {
        if self.bindings.in_slot(slice.slot).is_none_or(|live| live != slice) {
            return;
        }
        let dropped = self.clear_output(slice.slot);
        self.metrics.discarded += dropped;
        self.metrics.quarantined += 1;
        if let Some(output) = self.outputs.get_mut(slice.slot as usize) {
            output.quarantined = true;
        }
    }

    /// Is the slice quarantined?
    pub fn is_quarantined(&self, slice: SliceId) -> bool {
        self.bindings.in_slot(slice.slot).is_some_and(|live| live == slice)
            && self.outputs.get(slice.slot as usize).is_some_and(|o| o.quarantined)
    }

    /// Empties a slot's output, keeping its membership of the two lists and the queue's memory.
    fn clear_output(&mut self, slot: u32) -> u64 {
        let Some(output) = self.outputs.get_mut(slot as usize) else { return 0 };
        let dropped = output.queue.clear(&mut self.pool);
        *output = SliceOutput {
            queue: std::mem::take(&mut output.queue),
            in_waiting: output.in_waiting,
            in_holding: output.in_holding,
            ..SliceOutput::default()
        };
        dropped
    }

    /// Drops data frames that have waited longer than the limit. To be called now and then (every 100 ms): it looks at
    /// every slot that holds frames.
    pub fn expire(&mut self, now: u64) -> u64 {
        let limit = now.saturating_sub(self.config.limits.hold_age_us_max);
        let mut dropped = 0;
        let Self { outputs, holding, pool, openings, .. } = self;
        holding.retain(|slot| {
            let Some(output) = outputs.get_mut(*slot as usize) else { return false };
            dropped += output.queue.expire(limit, pool);
            output.in_holding = !output.queue.is_empty();
            output.in_holding
        });
        dropped += openings.expire(now, pool);
        self.metrics.expired += dropped;
        dropped
    }

    /// When the longest-waiting frame of the guest was queued: how the caller sees a standby that has become slow.
    /// Looks at every slot that holds frames.
    pub fn oldest_held_us(&self) -> Option<u64> {
        self.holding.iter().filter_map(|slot| self.outputs.get(*slot as usize)?.queue.oldest_us()).min()
    }

    /// What the valve knows of a slot's output, in words: for people who look for a fault.
    pub fn report(&self, slot: u32) -> Option<String> {
        self.outputs.get(slot as usize).map(|o| {
            let (held, need, captured, waiting) = (o.queue.len(), o.need_max, o.captured, o.in_waiting);
            format!("{held} held, need {need}, captured {captured:?}, waiting {waiting}, committed {:?}", o.committed)
        })
    }

    /// Frames that a slot holds.
    pub fn held_frames(&self, slot: u32) -> usize {
        self.outputs.get(slot as usize).map_or(0, |o| o.queue.len())
    }
}

#[cfg(test)]
#[path = "valve_tests.rs"]
mod tests;
