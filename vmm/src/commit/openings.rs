//! Connections that a guest's kernel has answered and that no slot is bound to yet.
//!
//! Such a kernel answers a SYN before any program of the guest knows of it. The answer waits here until the agent has given the flow
//! a slot; then it is held like any frame, and leaves when the slice's first checkpoint is committed.

use super::frame_pool::{Buffer, FramePool};
use super::segment::Segment;
use escape_abi::message::Flow;
use std::collections::{HashMap, VecDeque};

/// Answers that wait at once; more are dropped (the client, and the kernel, send again).
pub const OPENINGS_MAX: usize = 256;
/// How long one waits, microseconds: as long as its SYN may be answered by a binding.
const AGE_MAX_US: u64 = super::syn_table::SYN_AGE_MAX_US;

/// An answer that waits.
#[derive(Debug)]
pub struct Opening {
    /// The frame.
    pub buffer: Buffer,
    /// What it is.
    pub segment: Segment,
    /// Since when, microseconds.
    pub since_us: u64,
}

/// The answers that wait, by flow.
#[derive(Debug, Default)]
pub struct Openings {
    by_flow: HashMap<Flow, Opening>,
    /// In the order of their coming; some have left.
    order: VecDeque<(Flow, u64)>,
}

impl Openings {
    /// Whether one of this flow waits.
    pub fn has(&self, flow: &Flow) -> bool {
        self.by_flow.contains_key(flow)
    }

    /// No more may wait.
    pub fn is_full(&self) -> bool {
        self.by_flow.len() >= OPENINGS_MAX || self.order.len() >= 4 * OPENINGS_MAX
    }

    /// Keeps one; the caller has asked [`Self::is_full`].
    pub fn keep(&mut self, opening: Opening) {
        self.order.push_back((opening.segment.flow, opening.since_us));
        self.by_flow.insert(opening.segment.flow, opening);
    }

    /// Takes that of a flow.
    pub fn take(&mut self, flow: &Flow) -> Option<Opening> {
        self.by_flow.remove(flow)
    }

    /// Drops those that have waited too long; returns how many.
    pub fn expire(&mut self, now: u64, pool: &mut FramePool) -> u64 {
        let limit = now.saturating_sub(AGE_MAX_US);
        let mut dropped = 0;
        while let Some((flow, since_us)) = self.order.front().copied().filter(|(_, since)| *since < limit) {
            self.order.pop_front();
            if self.by_flow.get(&flow).is_some_and(|opening| opening.since_us == since_us)
                && let Some(opening) = self.by_flow.remove(&flow)
            {
                pool.give(opening.buffer);
                dropped += 1;
            }
        }
        dropped
    }
}
