//! Connections of a guest whose kernel has the TCP state: its answer to a SYN waits for the agent's binding.

use super::super::openings::Opening;
use super::super::segment::Segment;
use super::super::slice_id::SliceId;
use super::super::syn_options::SynOptions;
use super::super::valve_config::Rule;
use super::super::verdict::{DropCause, Verdict};
use super::{HeldFrame, Valve};
use escape_abi::message::Flow;

impl Valve {
    /// A SYN came in by this VMM's own interface, or is replayed to its guest, as this frame: see [`super::Bindings::saw_syn`].
    pub fn saw_syn_frame(&mut self, segment: &Segment, frame: &[u8], now: u64) {
        self.bindings.saw_syn(segment.flow, segment.seq, SynOptions::of(frame, segment), now);
    }

    /// A frame of a flow that no slice has: a kernel's answer to a SYN waits for its binding, anything else is dropped.
    pub(super) fn keep_opening(&mut self, frame: &[u8], segment: &Segment, now: u64) -> Result<Verdict, DropCause> {
        let answers = segment.flags.syn() && segment.flags.ack() && segment.seq_len() == 1;
        if self.config.rule != Rule::Numbers || !answers {
            return Err(DropCause::Unbound);
        }
        let (irs, offered) = self.bindings.syn_of(&segment.flow, now).ok_or(DropCause::Unbound)?;
        if segment.ack != irs.wrapping_add(1) {
            return Err(DropCause::Unbound);
        }
        if self.openings.has(&segment.flow) {
            return Err(DropCause::Duplicate);
        }
        if self.openings.is_full() {
            return Err(DropCause::VmQuota);
        }
        let buffer = self.pool.take(frame).ok_or(DropCause::VmQuota)?;
        self.openings.keep(Opening { buffer, segment: *segment, since_us: now });
        self.metrics.openings += 1;
        let numbers = offered.agree(&SynOptions::of(frame, segment), segment.seq, irs);
        Ok(Verdict::Opening { flow: segment.flow, numbers })
    }

    /// The answer that waited for this binding is held like any frame. Every committed state of the slice covers it.
    pub(super) fn hold_opening(&mut self, slice: SliceId, flow: &Flow) {
        if let Some(Opening { buffer, segment, since_us }) = self.openings.take(flow) {
            self.push_held(slice, HeldFrame { buffer, segment, need: 0, since_us });
        }
    }
}
