//! The inbound frames of one flow that may have to be given to a guest.

use super::frame_pool::{Buffer, FramePool};
use super::segment::Segment;
use super::sequence::{ahead, before, covers};

/// Bounds of one flow's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Payload bytes kept, and how far beyond the covered frontier a segment may end: the guest's receive window.
    pub window_bytes: u32,
    /// Segments kept.
    pub segments_max: usize,
}

impl Default for FlowLimits {
    /// A window of 64 KiB, and as many segments as it has at an MTU of 1,500, plus 32.
    fn default() -> Self {
        Self { window_bytes: 65_536, segments_max: 46 + 32 }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is in the store (perhaps in place of another).
    Yes,
    /// It is old, or a copy.
    Useless,
    /// It lies beyond the window.
    BeyondWindow,
    /// The flow's bound is reached and it has the highest sequence.
    OverFlowLimit,
    /// The VMM's bound is reached and the flow has nothing higher to give up.
    OverVmmLimit,
}

#[derive(Debug)]
struct KeptSegment {
    seq: u32,
    seq_end: u32,
    payload_len: u16,
    buffer: Buffer,
}

/// One flow: SYN, segments in order of sequence, last pure acknowledgement, RST.
#[derive(Debug, Default)]
pub struct FlowStore {
    /// `rcv_nxt` of the last checkpoint; `None` as long as no slice is known for the flow.
    covered: Option<u32>,
    syn: Option<(u32, Buffer)>,
    segments: Vec<KeptSegment>,
    payload_bytes: usize,
    last_ack: Option<Buffer>,
    rst: Option<Buffer>,
}

impl FlowStore {
    /// A slice is known for the flow.
    pub fn is_known(&self) -> bool {
        self.covered.is_some()
    }

    /// Frames kept.
    pub fn len(&self) -> usize {
        self.segments.len()
            + [&self.last_ack, &self.rst].into_iter().flatten().count()
            + usize::from(self.syn.is_some())
    }

    /// Nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps a frame, or says why not.
    pub fn keep(&mut self, segment: &Segment, frame: &[u8], limits: &FlowLimits, pool: &mut FramePool) -> Kept {
        if segment.flags.rst() {
            return replace(&mut self.rst, frame, pool);
        }
        if segment.flags.syn() {
            return self.keep_syn(segment, frame, pool);
        }
        if segment.seq_len() == 0 {
            return replace(&mut self.last_ack, frame, pool);
        }
        self.keep_segment(segment, frame, limits, pool)
    }

    fn keep_syn(&mut self, segment: &Segment, frame: &[u8], pool: &mut FramePool) -> Kept {
        if self.covered.is_some_and(|covered| covers(covered, segment.seq.wrapping_add(1))) {
            return Kept::Useless;
        }
        let Some(buffer) = pool.take(frame) else { return Kept::OverVmmLimit };
        if let Some((_, old)) = self.syn.replace((segment.seq, buffer)) {
            pool.give(old);
        }
        Kept::Yes
    }

    fn keep_segment(&mut self, segment: &Segment, frame: &[u8], limits: &FlowLimits, pool: &mut FramePool) -> Kept {
        let (seq, seq_end) = (segment.seq, segment.seq_end());
        if self.covered.is_some_and(|covered| covers(covered, seq_end)) {
            return Kept::Useless;
        }
        if !self.in_window(seq, seq_end, limits.window_bytes) {
            return Kept::BeyondWindow;
        }
        let place = self.segments.partition_point(|kept| before(kept.seq, seq));
        if self.segments.get(place).is_some_and(|kept| kept.seq == seq) {
            return self.replace_at(place, segment, frame, pool);
        }
        while self.full(segment.payload_len, limits) {
            if place >= self.segments.len() {
                return Kept::OverFlowLimit;
            }
            self.drop_highest(pool);
        }
        let mut buffer = pool.take(frame);
        while buffer.is_none() && place < self.segments.len() {
            self.drop_highest(pool);
            buffer = pool.take(frame);
        }
        let Some(buffer) = buffer else { return Kept::OverVmmLimit };
        self.payload_bytes += usize::from(segment.payload_len);
        self.segments.insert(place, KeptSegment { seq, seq_end, payload_len: segment.payload_len, buffer });
        Kept::Yes
    }

    /// A copy with the same start: the longer one is kept, and of equal ones the newer (it acknowledges more).
    fn replace_at(&mut self, place: usize, segment: &Segment, frame: &[u8], pool: &mut FramePool) -> Kept {
        let Some(kept) = self.segments.get_mut(place) else { return Kept::Useless };
        if before(segment.seq_end(), kept.seq_end) {
            return Kept::Useless;
        }
        let Some(buffer) = pool.take(frame) else { return Kept::OverVmmLimit };
        self.payload_bytes = self.payload_bytes - usize::from(kept.payload_len) + usize::from(segment.payload_len);
        kept.seq_end = segment.seq_end();
        kept.payload_len = segment.payload_len;
        pool.give(std::mem::replace(&mut kept.buffer, buffer));
        Kept::Yes
    }

    /// Does the segment end within the window beyond what is covered? Without a frontier, all kept segments of the flow
    /// must lie within one window.
    fn in_window(&self, seq: u32, seq_end: u32, window: u32) -> bool {
        // A FIN takes one number beyond the window.
        let window = window.saturating_add(1);
        if let Some(covered) = self.covered {
            return ahead(covered, seq_end) <= window;
        }
        let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) else { return true };
        let low = if before(seq, first.seq) { seq } else { first.seq };
        let high = if before(last.seq_end, seq_end) { seq_end } else { last.seq_end };
        ahead(low, high) <= window
    }

    fn full(&self, payload_len: u16, limits: &FlowLimits) -> bool {
        self.segments.len() >= limits.segments_max
            || self.payload_bytes + usize::from(payload_len) > limits.window_bytes as usize
    }

    fn drop_highest(&mut self, pool: &mut FramePool) {
        if let Some(highest) = self.segments.pop() {
            self.payload_bytes -= usize::from(highest.payload_len);
            pool.give(highest.buffer);
        }
    }

    /// A checkpoint has taken in all bytes before `rcv_nxt`: drops what it covers; returns how many frames.
    pub fn cover(&mut self, rcv_nxt: u32, pool: &mut FramePool) -> usize {
        // Never backwards: a covered byte was acknowledged to the client, which has forgotten it.
        if self.covered.is_some_and(|covered| covers(covered, rcv_nxt)) {
            return 0;
        }
        self.covered = Some(rcv_nxt);
        let kept_before = self.len();
        if let Some((_, buffer)) = self.syn.take_if(|(seq, _)| covers(rcv_nxt, seq.wrapping_add(1))) {
            pool.give(buffer);
        }
        let mut bytes = self.payload_bytes;
        // Segments are ordered by their start, not by their end: a covered one may follow one that is not.
        self.segments.extract_if(.., |kept| covers(rcv_nxt, kept.seq_end)).for_each(|kept| {
            bytes -= usize::from(kept.payload_len);
            pool.give(kept.buffer);
        });
        self.payload_bytes = bytes;
        kept_before - self.len()
    }

    /// Gives the kept frames to `deliver` in the order in which a guest should see them: SYN, segments by sequence (a FIN is
    /// the last of them), last acknowledgement, RST. Stops when `deliver` refuses; what was delivered is gone.
    pub fn replay(&mut self, pool: &mut FramePool, deliver: &mut impl FnMut(&[u8]) -> bool) -> usize {
        let mut delivered = 0;
        if let Some((seq, buffer)) = self.syn.take() {
            if !deliver(buffer.frame()) {
                self.syn = Some((seq, buffer));
                return delivered;
            }
            pool.give(buffer);
            delivered += 1;
        }
        let sent = self.segments.iter().take_while(|kept| deliver(kept.buffer.frame())).count();
        for kept in self.segments.drain(..sent) {
            self.payload_bytes -= usize::from(kept.payload_len);
            pool.give(kept.buffer);
        }
        delivered += sent;
        if !self.segments.is_empty() {
            return delivered;
        }
        for slot in [&mut self.last_ack, &mut self.rst] {
            if slot.as_ref().is_some_and(|buffer| !deliver(buffer.frame())) {
                return delivered;
            }
            if let Some(buffer) = slot.take() {
                pool.give(buffer);
                delivered += 1;
            }
        }
        delivered
    }

    /// Gives all buffers back.
    pub fn clear(&mut self, pool: &mut FramePool) {
        let FlowStore { syn, segments, last_ack, rst, .. } = std::mem::take(self);
        let buffers = syn.map(|(_, buffer)| buffer).into_iter().chain(segments.into_iter().map(|kept| kept.buffer));
        buffers.chain(last_ack).chain(rst).for_each(|buffer| pool.give(buffer));
    }
}

fn replace(place: &mut Option<Buffer>, frame: &[u8], pool: &mut FramePool) -> Kept {
    let Some(buffer) = pool.take(frame) else { return Kept::OverVmmLimit };
    if let Some(old) = place.replace(buffer) {
        pool.give(old);
    }
    Kept::Yes
}
