//! The held output of one slice: first in, first out.

use super::frame_pool::{Buffer, FramePool};
use super::quota::HeldLoad;
use super::segment::Segment;
use std::collections::VecDeque;

/// Frames at the tail of the queue that are compared with a new one to find retransmissions.
const DEDUPE_DEPTH: usize = 64;

/// A frame that waits for a commit.
#[derive(Debug)]
pub struct HeldFrame {
    /// The frame, exactly as it was classified.
    pub buffer: Buffer,
    /// What it is.
    pub segment: Segment,
    /// Generation whose commit covers it.
    pub need: u64,
    /// When it was queued, microseconds.
    pub since_us: u64,
}

/// A slice's held frames in the order of emission (invariant I6). Bounded by [`super::quota::HoldLimits`].
#[derive(Debug, Default)]
pub struct HoldQueue {
    frames: VecDeque<HeldFrame>,
    load: HeldLoad,
}

impl HoldQueue {
    /// What the slice holds.
    pub fn load(&self) -> &HeldLoad {
        &self.load
    }

    /// Nothing is held.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frames held.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// When the oldest held frame was queued.
    pub fn oldest_us(&self) -> Option<u64> {
        self.frames.front().map(|held| held.since_us)
    }

    /// Is an identical segment held: same sequence space (not empty), acknowledgement, flags and window? The oldest copy is
    /// kept, because it has the lowest demands; a copy that acknowledges more is another segment and is held too.
    pub fn holds_copy_of(&self, segment: &Segment) -> bool {
        segment.seq_len() > 0 && self.frames.iter().rev().take(DEDUPE_DEPTH).any(|held| held.segment == *segment)
    }

    /// Adds a frame at the end.
    pub fn push(&mut self, frame: HeldFrame) {
        self.load.bytes += frame.buffer.cost();
        *Self::kind(&mut self.load, &frame.segment) += 1;
        self.frames.push_back(frame);
    }

    /// The first frame, if the commit of `generation` covers it.
    pub fn covered_head(&self, generation: u64) -> Option<&HeldFrame> {
        self.frames.front().filter(|held| held.need <= generation)
    }

    /// Removes the first frame and gives its buffer back to `pool`.
    pub fn drop_head(&mut self, pool: &mut FramePool) {
        if let Some(held) = self.frames.pop_front() {
            self.forget(held, pool);
        }
    }

    /// Drops data frames at the head that were queued before `limit_us`; returns how many. FIN and RST stay.
    pub fn expire(&mut self, limit_us: u64, pool: &mut FramePool) -> u64 {
        let mut dropped = 0;
        while self.frames.front().is_some_and(|held| held.since_us < limit_us && !held.segment.ends_connection()) {
            self.drop_head(pool);
            dropped += 1;
        }
        dropped
    }

    /// Drops everything; returns how many frames.
    pub fn clear(&mut self, pool: &mut FramePool) -> u64 {
        let mut dropped = 0;
        while let Some(held) = self.frames.pop_front() {
            self.forget(held, pool);
            dropped += 1;
        }
        dropped
    }

    fn forget(&mut self, held: HeldFrame, pool: &mut FramePool) {
        self.load.bytes = self.load.bytes.saturating_sub(held.buffer.cost());
        let kind = Self::kind(&mut self.load, &held.segment);
        *kind = kind.saturating_sub(1);
        pool.give(held.buffer);
    }

    fn kind<'a>(load: &'a mut HeldLoad, segment: &Segment) -> &'a mut usize {
        if segment.ends_connection() { &mut load.endings } else { &mut load.data_frames }
    }
}
