//! The images of slots: the owner's shadows and the standby's copies.
//!
//! An image stays outside the guest's memory until its slice is plugged, whatever a peer sends: a checkpoint says which
//! lines of *its own slot's image* it changes, never an address (the "merge write primitive" of the threat model).

use super::chain::{CHAIN_START, ChainHash, next_link};
use super::checkpoint::{Applied, Checkpoint, Encoded, Installed};
use super::connections::Place;
use super::delta::{Body, BodyWriter};
use super::image_error::{ApplyError, ImageError};
use super::image_mapping::ImageMapping;
use super::line_set::LineSet;
use super::metrics::ImageMetrics;
use super::published::Published;
use super::slice_id::SliceId;
use super::slot_image::{Role, SlotImage};
use crate::memory::slot_memory::SlotMemory;
use escape_abi::SlotWord;
use escape_abi::layout::LINE;
use escape_abi::message::Flow;

/// Images of all slots of a cell, sparse.
#[derive(Debug)]
pub struct ImageStore {
    mapping: ImageMapping,
    /// One entry per slot; bounded by the cell.
    images: Vec<Option<Box<SlotImage>>>,
    metrics: ImageMetrics,
}

impl ImageStore {
    /// An empty store for a cell of `n_slots`.
    pub fn new(n_slots: u32) -> Result<Self, ImageError> {
        let mapping = ImageMapping::new(n_slots).map_err(|source| ImageError::Map { n_slots, source })?;
        let mut images = Vec::new();
        images.resize_with(n_slots as usize, || None);
        Ok(Self { mapping, images, metrics: ImageMetrics::default() })
    }

    /// Counters.
    pub fn metrics(&self) -> &ImageMetrics {
        &self.metrics
    }

    /// Starts an image: the owner's at the slice's binding, the standby's at its CREATE.
    pub fn create(&mut self, slice: SliceId, flow: Flow, role: Role) -> Result<(), ImageError> {
        let place = self.images.get_mut(slice.slot as usize).ok_or(ImageError::NoSuchSlot { slice })?;
        if let Some(present) = place {
            return Err(ImageError::Occupied { slice, present: present.slice });
        }
        *place = Some(Box::new(SlotImage::new(slice, flow, role)));
        self.metrics.created += 1;
        Ok(())
    }

    /// The image in a slot, whoever's.
    pub fn in_slot(&self, slot: u32) -> Option<&SlotImage> {
        self.images.get(slot as usize)?.as_deref()
    }

    /// The image of a slice.
    pub fn get(&self, slice: SliceId) -> Option<&SlotImage> {
        self.in_slot(slice.slot).filter(|image| image.slice == slice)
    }

    /// The bytes of a slice's image. Only lines that a live range touches mean anything.
    pub fn bytes(&self, slice: SliceId) -> Option<&[u8]> {
        self.get(slice).and_then(|_| self.mapping.slot(slice.slot))
    }

    /// All images, by slot. Looks at every slot: for promotion and reports, not for the commit path.
    pub fn iter(&self) -> impl Iterator<Item = &SlotImage> {
        self.images.iter().filter_map(|image| image.as_deref())
    }

    /// Ends the image of a slice and gives its pages back. Returns whether there was one.
    pub fn free(&mut self, slice: SliceId) -> bool {
        let Some(place) = self.images.get_mut(slice.slot as usize) else { return false };
        if place.take_if(|image| image.slice == slice).is_none() {
            return false;
        }
        self.mapping.free(slice.slot);
        self.metrics.freed += 1;
        true
    }

    /// The shadow's slice has another connection: captures know from now on whose it is. Returns whether the place was free.
    pub fn add_flow(&mut self, slice: SliceId, place: usize, flow: Flow, serial: u16) -> bool {
        let Some(entry) = self.place_mut(slice, place) else { return false };
        let free = entry.flow().is_none();
        if free {
            *entry = Place::Bound { flow, serial };
        }
        free
    }

    /// The connection of the shadow's slice that was this use of its place has ended for this VMM, or was refused by it.
    pub fn leave_place(&mut self, slice: SliceId, place: usize, serial: u16) {
        if let Some(entry) = self.place_mut(slice, place) {
            *entry = Place::Left { serial };
        }
    }

    fn place_mut(&mut self, slice: SliceId, place: usize) -> Option<&mut Place> {
        self.with_role(slice, Role::Shadow).ok()?.0.places.get_mut(place)
    }

    /// The next capture of this slice shall be a full copy: the standby said that it misses something.
    pub fn forget_known(&mut self, slice: SliceId) -> Result<(), ImageError> {
        self.with_role(slice, Role::Shadow)?.0.known.clear();
        Ok(())
    }

    /// Makes a checkpoint of `staging` (a whole slot, of which the live lines are valid): writes the lines that the
    /// standby does not have to `out`, and brings the shadow up to date.
    pub(super) fn encode(
        &mut self,
        slice: SliceId,
        state: Published,
        staging: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Encoded, ImageError> {
        let (image, shadow) = self.with_role(slice, Role::Shadow)?;
        let full = image.known.is_empty();
        let mut writer = BodyWriter::new(out, &state, full.then_some(&image.chain));
        for span in state.live.spans() {
            update_span(span, &mut image.known, staging, shadow, &mut writer);
        }
        let lines = writer.lines();
        let number = image.number + 1;
        let base = if full { 0 } else { image.number };
        let hash = if full { next_link(&CHAIN_START, out) } else { next_link(&image.chain, out) };
        if !full {
            image.chain = hash;
        }
        image.number = number;
        image.published = Some(state);
        Ok(Encoded { checkpoint: Checkpoint { number, base, hash }, full, lines })
    }

    /// Encodes the shadow's last captured state as a full copy, for a new standby or one that missed something.
    /// Deltas that follow suit both this receiver and one that has followed all along.
    pub fn encode_full(&mut self, slice: SliceId, out: &mut Vec<u8>) -> Result<Encoded, ImageError> {
        let (image, shadow) = self.with_role(slice, Role::Shadow)?;
        let state = image.published.as_ref().ok_or(ImageError::Empty { slice })?;
        let mut writer = BodyWriter::new(out, state, Some(&image.chain));
        image.known.clear();
        for span in state.live.spans() {
            if let Some(bytes) = shadow.get(span.start * LINE..span.end * LINE) {
                writer.run(span.start, bytes);
            }
            image.known.insert(span);
        }
        let lines = writer.lines();
        let checkpoint = Checkpoint { number: image.number, base: 0, hash: next_link(&CHAIN_START, out) };
        self.metrics.full_copies += 1;
        Ok(Encoded { checkpoint, full: true, lines })
    }

    /// Applies a checkpoint of a peer to the standby's image: all of it, or nothing of it and an error.
    pub fn apply(&mut self, slice: SliceId, checkpoint: &Checkpoint, body: &[u8]) -> Result<Applied, ApplyError> {
        let applied = self.try_apply(slice, checkpoint, body);
        match &applied {
            Ok(_) => {
                self.metrics.applied += 1;
                self.metrics.applied_bytes += body.len() as u64;
            }
            Err(ApplyError::Gap { .. }) => self.metrics.gaps += 1,
            Err(_) => self.metrics.refused += 1,
        }
        applied
    }

    fn try_apply(&mut self, slice: SliceId, checkpoint: &Checkpoint, bytes: &[u8]) -> Result<Applied, ApplyError> {
        let (image, copy) = self.with_role(slice, Role::Standby).map_err(|_| ApplyError::Unknown { slice })?;
        let Checkpoint { number, hash, .. } = *checkpoint;
        let previous = check_order(image, checkpoint)?;
        if next_link(&previous, bytes) != hash {
            return Err(ApplyError::Hash { slice, number });
        }
        let body = Body::parse(bytes).map_err(|cause| ApplyError::Body { slice, number, cause })?;
        let known = check_against_image(image, checkpoint, &body).map_err(|what| ApplyError::Contradiction {
            slice,
            number,
            what,
        })?;
        // Nothing below can fail: every run was checked to lie in the slot.
        for (lines, content) in body.runs() {
            if let Some(place) = copy.get_mut(lines.start * LINE..lines.end * LINE) {
                place.copy_from_slice(content);
            }
        }
        let state = body.state;
        let (connections, generation, closed) = (state.connections, state.generation, state.closed());
        let before = image.published.as_ref().map(|p| p.connections).unwrap_or_default();
        image.places = connections.places();
        let new_pages = image.pages.add_lines(state.live.spans());
        image.known = known;
        image.number = number;
        image.chain = body.resume_chain.unwrap_or(hash);
        image.published = Some(state);
        Ok(Applied { connections, before, generation, closed, full: body.resume_chain.is_some(), hash, new_pages })
    }

    /// Plugs: copies the live ranges of a standby's image into the arena, exactly, and sets the slot's word to the
    /// image's generation with no reference. The image becomes the new owner's shadow, equal to the slot in every live
    /// line, so the first capture is a delta: the group is Solo then, and a standby begins with a full copy.
    ///
    /// Only while the guest holds nothing in that slot. Installing a shadow again (the guest was restarted) is the same.
    pub fn install(&mut self, slice: SliceId, memory: &impl SlotMemory) -> Result<Installed, ImageError> {
        let missing = ImageError::Missing { slice, role: Role::Standby };
        let Some(image) =
            self.images.get_mut(slice.slot as usize).and_then(|i| i.as_mut()).filter(|i| i.slice == slice)
        else {
            return Err(missing);
        };
        let state = image.published.as_ref().ok_or(ImageError::Empty { slice })?;
        let bytes_of = self.mapping.slot(slice.slot).ok_or(ImageError::NoSuchSlot { slice })?;
        let mut bytes = 0;
        for range in state.live.byte_ranges() {
            let content = bytes_of.get(range.clone()).ok_or(ImageError::NotMapped { slice })?;
            if !memory.write(slice.slot, range.start, content) {
                return Err(ImageError::NotMapped { slice });
            }
            bytes += content.len();
        }
        let generation = state.generation;
        image.places = state.connections.places();
        memory.set_word(slice.slot, SlotWord::new(generation, 0));
        image.take_role(Role::Shadow);
        self.metrics.installed += 1;
        self.metrics.installed_bytes += bytes as u64;
        Ok(Installed { bytes, generation })
    }

    /// The slice runs elsewhere from now on (T9): the shadow, which its new owner's copy is equal to, is a standby's image. False:
    /// there is no shadow of it.
    pub fn hand_over(&mut self, slice: SliceId) -> bool {
        let image = self.images.get_mut(slice.slot as usize).and_then(|i| i.as_deref_mut());
        let Some(image) = image.filter(|i| i.slice == slice && i.role == Role::Shadow && i.published.is_some()) else {
            return false;
        };
        image.take_role(Role::Standby);
        true
    }

    /// The image of a slice in that role, and its bytes.
    fn with_role(&mut self, slice: SliceId, role: Role) -> Result<(&mut SlotImage, &mut [u8]), ImageError> {
        let missing = ImageError::Missing { slice, role };
        let image = self.images.get_mut(slice.slot as usize).and_then(|i| i.as_deref_mut());
        match (image, self.mapping.slot_mut(slice.slot)) {
            (Some(image), Some(bytes)) if image.slice == slice && image.role == role => Ok((image, bytes)),
            _ => Err(missing),
        }
    }
}

/// Does the checkpoint follow what the image has? Returns the link that its hash builds on.
fn check_order(image: &SlotImage, checkpoint: &Checkpoint) -> Result<ChainHash, ApplyError> {
    let Checkpoint { number, base, .. } = *checkpoint;
    let (slice, have) = (image.slice, image.number);
    if base == 0 {
        // A full copy may repeat the state that is here already, and may jump ahead; never back.
        if number < have || number == 0 {
            return Err(ApplyError::Stale { slice, number, have });
        }
        return Ok(CHAIN_START);
    }
    if number <= have {
        return Err(ApplyError::Stale { slice, number, have });
    }
    if base != have || number <= base {
        return Err(ApplyError::Gap { slice, number, base, have });
    }
    Ok(image.chain)
}

/// Does the body fit the image? Returns the lines that the image will have after it.
fn check_against_image(image: &SlotImage, checkpoint: &Checkpoint, body: &Body<'_>) -> Result<LineSet, &'static str> {
    if body.resume_chain.is_some() != (checkpoint.base == 0) {
        return Err("kind and base disagree");
    }
    if body.state.incarnation != image.slice.incarnation {
        return Err("another incarnation");
    }
    if image.generation().is_some_and(|have| body.state.generation < have) {
        return Err("generation goes back");
    }
    let mut known = if body.resume_chain.is_some() { LineSet::default() } else { image.known.clone() };
    for (lines, _) in body.runs() {
        known.insert(lines);
    }
    if body.state.live.spans().all(|span| known.contains_all(span)) { Ok(known) } else { Err("live lines never sent") }
}

/// Writes the runs of `span` that the standby does not have, and copies them to the shadow.
fn update_span(
    span: std::ops::Range<usize>,
    known: &mut LineSet,
    staging: &[u8],
    shadow: &mut [u8],
    writer: &mut BodyWriter<'_>,
) {
    let bytes = span.start * LINE..span.end * LINE;
    let (Some(new), Some(old)) = (staging.get(bytes.clone()), shadow.get_mut(bytes)) else { return };
    let (new_lines, _) = new.as_chunks::<LINE>();
    let (old_lines, _) = old.as_chunks_mut::<LINE>();
    let mut run_start = None;
    let mut close_run = |start: &mut Option<usize>, end: usize| {
        if let Some(first) = start.take()
            && let Some(run) = new.get(first * LINE..end * LINE)
        {
            writer.run(span.start + first, run);
        }
    };
    for (line, (new_line, old_line)) in new_lines.iter().zip(old_lines).enumerate() {
        if known.contains(span.start + line) && same_line(new_line, old_line) {
            close_run(&mut run_start, line);
            continue;
        }
        *old_line = *new_line;
        run_start.get_or_insert(line);
    }
    close_run(&mut run_start, new_lines.len());
    known.insert(span);
}

/// Compares two lines without a branch per word, so that the compiler uses vector registers.
#[inline]
fn same_line(a: &[u8; LINE], b: &[u8; LINE]) -> bool {
    let (a, _) = a.as_chunks::<8>();
    let (b, _) = b.as_chunks::<8>();
    a.iter().zip(b).fold(0, |different, (a, b)| different | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b))) == 0
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
