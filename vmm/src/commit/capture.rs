//! Capture: a consistent cut of one slot while the guest runs.
//!
//! No vCPU is paused. A quiescent slot word (no reference) before and after a copy of the live ranges proves the copy
//! whole. A slot that is referenced too often to be caught that way is held: the guest takes no new reference until the
//! capture is done. A reference that does not end is a slice that hangs.

use super::checkpoint::{Checkpoint, Encoded};
use super::coverage::Coverage;
use super::delta::BODY_LEN_MAX;
use super::image::ImageStore;
use super::image_error::ImageError;
use super::live_set::LiveError;
use super::metrics::CaptureMetrics;
use super::published::Published;
use super::slice_id::SliceId;
use crate::memory::slot_memory::SlotMemory;
use escape_abi::SlotWord;
use escape_abi::layout::{LINE, SLOT_SIZE};
use std::collections::HashMap;
use std::sync::atomic::{Ordering, fence};
use thiserror::Error;

/// How patient a capture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureLimits {
    /// Copies that may be spoiled by the guest before the slot is held.
    pub tries_max: u32,
    /// Time after which the slot is held, microseconds.
    pub optimism_us_max: u64,
    /// Age of a reference after which the slice hangs, microseconds.
    pub reference_us_max: u64,
    /// Most that one look at a referenced slot may add to that age, microseconds: when this whole process was paused,
    /// the guest was too, and a reference has not aged by it.
    pub look_us_max: u64,
}

impl Default for CaptureLimits {
    /// 3 tries, 50 µs, 500 ms, 5 ms. Ten times what the starting design says: a slice that works without end is found by its
    /// vCPU's processor time long before, and a vCPU that waits for a processor is no slice that hangs.
    fn default() -> Self {
        Self { tries_max: 3, optimism_us_max: 50, reference_us_max: 500_000, look_us_max: 5_000 }
    }
}

/// What a capture came to.
#[derive(Debug)]
pub enum Capture<'a> {
    /// A checkpoint to send.
    Captured(Captured<'a>),
    /// The slot's generation is the last captured one: nothing to send.
    Unchanged {
        /// That generation.
        generation: u64,
    },
    /// The slot is referenced. It is held now; capture it again soon.
    Referenced,
}

/// A checkpoint of one slice. The shadow is up to date with it already: what is not sent must be made good by a full copy.
#[derive(Debug)]
pub struct Captured<'a> {
    /// The slice.
    pub slice: SliceId,
    /// Place in the slice's history, and hash.
    pub checkpoint: Checkpoint,
    /// What its commit covers: to be given to [`Valve::release`](super::valve::Valve::release) then.
    pub coverage: Coverage,
    /// Requests answered so far (information).
    pub requests: u64,
    /// The slice's connection is finished: this is its CLOSE.
    pub closed: bool,
    /// A full copy.
    pub full: bool,
    /// Lines in the body.
    pub lines: usize,
    /// The body (see [`super::delta`]), valid until the next capture.
    pub body: &'a [u8],
}

/// A capture that failed. Every case but [`CaptureError::Image`] is the slice's fault: quarantine it.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The slot is not of this cell, or its lease is not mapped here.
    #[error("slice {slice}: its slot is not mapped in this guest")]
    NotMapped {
        /// The slice.
        slice: SliceId,
    },
    /// The metadata speaks of another incarnation.
    #[error("slice {slice}: the guest published incarnation {published:#x}")]
    Incarnation {
        /// The slice.
        slice: SliceId,
        /// What the metadata says.
        published: u64,
    },
    /// The metadata declares ranges that cannot be.
    #[error("slice {slice}: {cause}")]
    LyingRange {
        /// The slice.
        slice: SliceId,
        /// Which range, and how.
        cause: LiveError,
    },
    /// A reference has been held for too long.
    #[error("slice {slice} hangs: a reference of generation {generation} is {age_us} µs old")]
    Hanging {
        /// The slice.
        slice: SliceId,
        /// The generation that does not end.
        generation: u64,
        /// Age of the reference at least, microseconds.
        age_us: u64,
    },
    /// No shadow of this slice.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// A slot that is held because it was found referenced.
#[derive(Clone, Copy, Debug)]
struct Pursuit {
    slice: SliceId,
    /// Generation at the last look; `None` before the first.
    generation: Option<u64>,
    looked_us: u64,
    /// How long that generation has been seen referenced.
    age_us: u64,
}

/// One attempt to copy a slot. Short-lived, and on the path of every request: no box for the large case.
#[allow(clippy::large_enum_variant)]
enum Cut {
    Whole(Published),
    Unchanged(u64),
    Referenced(SlotWord),
    Spoiled,
}

/// Captures slots, one at a time, with buffers that are kept: no allocation in the steady state.
#[derive(Debug)]
pub struct Capturer {
    limits: CaptureLimits,
    staging: Box<[u8]>,
    body: Vec<u8>,
    /// Held slots by number; bounded by the cell's slots.
    pursuits: HashMap<u32, Pursuit>,
    /// Slices that stay held whatever their captures come to, by slot; bounded likewise.
    frozen: HashMap<u32, SliceId>,
    kick: bool,
    metrics: CaptureMetrics,
}

impl Capturer {
    /// A capturer; `limits` as of [`CaptureLimits::default`] unless tests want others.
    pub fn new(limits: CaptureLimits) -> Self {
        Self {
            limits,
            staging: vec![0; SLOT_SIZE].into_boxed_slice(),
            body: Vec::with_capacity(BODY_LEN_MAX),
            pursuits: HashMap::new(),
            frozen: HashMap::new(),
            kick: false,
            metrics: CaptureMetrics::default(),
        }
    }

    /// Counters.
    pub fn metrics(&self) -> &CaptureMetrics {
        &self.metrics
    }

    /// A hold was cleared since the last call: the guest must be kicked, it has deferred work.
    pub fn take_kick(&mut self) -> bool {
        std::mem::take(&mut self.kick)
    }

    /// Captures `slice` if it can be caught now, against its shadow in `images`. `clock` gives microseconds.
    pub fn capture(
        &mut self,
        slice: SliceId,
        memory: &impl SlotMemory,
        images: &mut ImageStore,
        clock: &impl Fn() -> u64,
    ) -> Result<Capture<'_>, CaptureError> {
        let cut = self.catch(slice, memory, images, clock);
        if !matches!(cut, Ok(Cut::Referenced(_))) {
            self.let_go(slice.slot, memory);
        }
        match cut? {
            Cut::Whole(published) => self.finish(slice, published, images).map(Capture::Captured),
            Cut::Unchanged(generation) => {
                self.metrics.unchanged += 1;
                Ok(Capture::Unchanged { generation })
            }
            Cut::Referenced(_) | Cut::Spoiled => {
                self.metrics.referenced += 1;
                Ok(Capture::Referenced)
            }
        }
    }

    /// The guest takes no reference of this slice from now on: a capture that finds it at rest is its last until
    /// [`Self::thaw`].
    pub fn freeze(&mut self, slice: SliceId, memory: &impl SlotMemory) {
        self.frozen.insert(slice.slot, slice);
        memory.set_hold(slice.slot, true);
    }

    /// Is it frozen?
    pub fn is_frozen(&self, slice: SliceId) -> bool {
        self.frozen.get(&slice.slot) == Some(&slice)
    }

    /// The guest may go on with it.
    pub fn thaw(&mut self, slice: SliceId, memory: &impl SlotMemory) {
        if self.is_frozen(slice) {
            self.frozen.remove(&slice.slot);
            self.pursuits.remove(&slice.slot);
            memory.set_hold(slice.slot, false);
            self.kick = true;
        }
    }

    /// The slice is gone: clears its hold, if it was held for a capture or frozen.
    pub fn forget(&mut self, slice: SliceId, memory: &impl SlotMemory) {
        self.thaw(slice, memory);
        if self.pursuits.get(&slice.slot).is_some_and(|p| p.slice == slice) {
            self.let_go(slice.slot, memory);
        }
    }

    /// Optimistic tries first; then the hold, which stays if the slot is referenced.
    fn catch(
        &mut self,
        slice: SliceId,
        memory: &impl SlotMemory,
        images: &ImageStore,
        clock: &impl Fn() -> u64,
    ) -> Result<Cut, CaptureError> {
        let started = clock();
        if self.pursuits.get(&slice.slot).is_none_or(|p| p.slice != slice) {
            let mut spoiled = 0;
            while spoiled < self.limits.tries_max {
                match self.cut(slice, memory, images)? {
                    Cut::Referenced(_) => std::hint::spin_loop(),
                    Cut::Spoiled => spoiled += 1,
                    caught => return Ok(caught),
                }
                if clock().saturating_sub(started) >= self.limits.optimism_us_max {
                    break;
                }
            }
            self.metrics.retries += u64::from(spoiled);
            self.metrics.holds += 1;
            memory.set_hold(slice.slot, true);
            self.pursuits.insert(slice.slot, Pursuit { slice, generation: None, looked_us: 0, age_us: 0 });
        }
        self.cut_held(slice, memory, images, clock())
    }

    /// Under the hold a word changes only by references that end, and by guests that take one and undo it at once.
    fn cut_held(
        &mut self,
        slice: SliceId,
        memory: &impl SlotMemory,
        images: &ImageStore,
        now: u64,
    ) -> Result<Cut, CaptureError> {
        let mut cut = Cut::Spoiled;
        for _ in 0..=self.limits.tries_max {
            cut = self.cut(slice, memory, images)?;
            if matches!(cut, Cut::Whole(_) | Cut::Unchanged(_)) {
                return Ok(cut);
            }
        }
        let word = match cut {
            Cut::Referenced(word) => word,
            _ => memory.word(slice.slot).ok_or(CaptureError::NotMapped { slice })?,
        };
        let generation = word.generation();
        let Some(pursuit) = self.pursuits.get_mut(&slice.slot) else { return Ok(Cut::Referenced(word)) };
        let age_us = match pursuit.generation {
            Some(seen) if seen == generation => {
                pursuit.age_us + now.saturating_sub(pursuit.looked_us).min(self.limits.look_us_max)
            }
            _ => 0,
        };
        *pursuit = Pursuit { slice, generation: Some(generation), looked_us: now, age_us };
        if age_us > self.limits.reference_us_max {
            self.metrics.hanging += 1;
            return Err(CaptureError::Hanging { slice, generation, age_us });
        }
        Ok(Cut::Referenced(word))
    }

    /// One attempt: word, metadata, live ranges to staging, word again. Whatever was read in between counts only if the
    /// word is the same quiescent one.
    fn cut(&mut self, slice: SliceId, memory: &impl SlotMemory, images: &ImageStore) -> Result<Cut, CaptureError> {
        let not_mapped = || CaptureError::NotMapped { slice };
        let word = memory.word(slice.slot).ok_or_else(not_mapped)?;
        if !word.quiescent() {
            return Ok(Cut::Referenced(word));
        }
        let image = images.get(slice);
        if image.and_then(|image| image.generation()) == Some(word.generation()) {
            return Ok(Cut::Unchanged(word.generation()));
        }
        let meta = memory.meta(slice.slot).ok_or_else(not_mapped)?;
        let places = image.map(|image| image.places).unwrap_or_default();
        let published = Published::new(word, &meta, &places);
        let copied = match &published {
            Ok(Some(published)) if published.incarnation == slice.incarnation => {
                self.copy_live(slice, published, memory)
            }
            _ => true,
        };
        fence(Ordering::Acquire);
        if memory.word(slice.slot).ok_or_else(not_mapped)? != word {
            return Ok(Cut::Spoiled);
        }
        let published = published.map_err(|cause| {
            self.metrics.lies += 1;
            CaptureError::LyingRange { slice, cause }
        })?;
        // As good as referenced: the guest's binding of a new connection is on its way, or the slice is given up as hanging.
        let Some(published) = published else { return Ok(Cut::Referenced(word)) };
        if published.incarnation != slice.incarnation {
            self.metrics.lies += 1;
            return Err(CaptureError::Incarnation { slice, published: published.incarnation });
        }
        if copied { Ok(Cut::Whole(published)) } else { Err(not_mapped()) }
    }

    /// Copies the live ranges to staging; bytes of their first and last lines that are not live become zero.
    fn copy_live(&mut self, slice: SliceId, published: &Published, memory: &impl SlotMemory) -> bool {
        for range in published.live.byte_ranges() {
            for line in [range.start / LINE, (range.end - 1) / LINE] {
                if let Some(edge) = self.staging.get_mut(line * LINE..(line + 1) * LINE) {
                    edge.fill(0);
                }
            }
        }
        for range in published.live.byte_ranges() {
            self.metrics.copied_bytes += range.len() as u64;
            let Some(into) = self.staging.get_mut(range.clone()) else { return false };
            if !memory.read(slice.slot, range.start, into) {
                return false;
            }
        }
        true
    }

    fn finish(
        &mut self,
        slice: SliceId,
        published: Published,
        images: &mut ImageStore,
    ) -> Result<Captured<'_>, CaptureError> {
        let (coverage, requests, closed) = (published.coverage(), published.requests, published.closed());
        let Encoded { checkpoint, full, lines } = images.encode(slice, published, &self.staging, &mut self.body)?;
        self.metrics.captured += 1;
        self.metrics.full += u64::from(full);
        self.metrics.lines += lines as u64;
        self.metrics.body_bytes += self.body.len() as u64;
        Ok(Captured { slice, checkpoint, coverage, requests, closed, full, lines, body: &self.body })
    }

    fn let_go(&mut self, slot: u32, memory: &impl SlotMemory) {
        if self.pursuits.remove(&slot).is_some() && !self.frozen.contains_key(&slot) {
            memory.set_hold(slot, false);
            self.kick = true;
        }
    }
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
