//! Arena and control pages of a test, and what a standby keeps of a slot.

use super::Rng;
use escape_abi::layout::SLOT_SIZE;
use escape_abi::{ControlLayout, SlotMeta, SlotWord};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// An anonymous mapping at an address of its own in this process.
pub struct Mapping {
    pub base: *mut u8,
    len: usize,
}

impl Mapping {
    pub fn new(len: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0x2000_0000_0000);
        let at = NEXT.fetch_add(len.next_multiple_of(1 << 26), Ordering::Relaxed);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: a new mapping that replaces none.
        let base = unsafe { libc::mmap(at as *mut _, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { base: base.cast(), len }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping; who used it is gone.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Control pages of one guest, from the host's side.
pub struct Control {
    pub memory: Mapping,
    pub layout: ControlLayout,
}

impl Control {
    pub fn new(n_slots: u32) -> Self {
        let layout = ControlLayout::new(n_slots);
        Self { memory: Mapping::new(layout.bytes as usize), layout }
    }
    fn word_cell(&self, slot: u32) -> &AtomicU64 {
        // SAFETY: inside the mapping; only accessed atomically.
        unsafe { &*self.memory.base.add(self.layout.words as usize).cast::<AtomicU64>().add(slot as usize) }
    }
    pub fn word(&self, slot: u32) -> SlotWord {
        SlotWord(self.word_cell(slot).load(Ordering::SeqCst))
    }
    pub fn set_word(&self, slot: u32, word: SlotWord) {
        self.word_cell(slot).store(word.0, Ordering::SeqCst);
    }
    pub fn hold(&self, slot: u32, held: bool) {
        // SAFETY: as above.
        let holds =
            unsafe { &*self.memory.base.add(self.layout.holds as usize).cast::<AtomicU32>().add(slot as usize) };
        holds.store(u32::from(held), Ordering::SeqCst);
    }
    pub fn meta(&self, slot: u32) -> SlotMeta {
        // SAFETY: inside the mapping; plain integers; the guest is this thread.
        unsafe { self.memory.base.add(self.layout.metas as usize).cast::<SlotMeta>().add(slot as usize).read() }
    }
}

/// What a standby has of a slice: the declared bytes of one generation.
#[derive(Clone)]
pub struct Image {
    pub meta: SlotMeta,
    pub generation: u64,
    pub ranges: Vec<(usize, Vec<u8>)>,
}

impl Image {
    pub fn bytes(&self) -> usize {
        self.ranges.iter().map(|r| r.1.len()).sum()
    }
}

pub struct Arena {
    pub memory: Mapping,
    pub n_slots: u32,
}

impl Arena {
    pub fn new(n_slots: u32) -> Self {
        Self { memory: Mapping::new(n_slots as usize * SLOT_SIZE), n_slots }
    }

    fn slot(&self, slot: u32) -> *mut u8 {
        assert!(slot < self.n_slots);
        // SAFETY: in bounds.
        unsafe { self.memory.base.add(slot as usize * SLOT_SIZE) }
    }

    /// Copies the live ranges of a slot that is at rest.
    pub fn capture(&self, control: &Control, slot: u32) -> Image {
        let (word, meta) = (control.word(slot), control.meta(slot));
        assert!(word.quiescent(), "slot {slot} is in motion");
        let ranges = meta.live.iter().filter(|r| r.len > 0).map(|r| {
            assert!(r.offset as usize + r.len as usize <= SLOT_SIZE, "{r:?}");
            // SAFETY: inside the slot, by the check.
            let bytes = unsafe { std::slice::from_raw_parts(self.slot(slot).add(r.offset as usize), r.len as usize) };
            (r.offset as usize, bytes.to_vec())
        });
        Image { meta, generation: word.generation(), ranges: ranges.collect() }
    }

    /// Writes an image into its slot; every byte that was not declared becomes garbage.
    pub fn restore(&self, slot: u32, image: &Image, rng: &mut Rng) {
        // SAFETY: the slot is mapped and no guest runs.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.slot(slot), SLOT_SIZE) };
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&rng.next().to_le_bytes());
        }
        for (at, data) in &image.ranges {
            bytes[*at..*at + data.len()].copy_from_slice(data);
        }
    }

    /// Damages one byte.
    pub fn poke(&self, slot: u32, at: usize, value: u8) {
        assert!(at < SLOT_SIZE);
        // SAFETY: in bounds.
        unsafe { self.slot(slot).add(at).write(value) };
    }
}
