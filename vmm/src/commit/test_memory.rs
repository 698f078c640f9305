//! Slot memory for tests, shared by threads that play guest and VMM, and the guest's half of the reference protocol.

use crate::memory::slot_memory::SlotMemory;
use escape_abi::layout::SLOT_SIZE;
use escape_abi::meta::{ConnectionNumbers, LiveRange, connection_bit};
use escape_abi::{SlotMeta, SlotWord};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

const META_WORDS: usize = 16;

pub struct TestMemory {
    words: Vec<AtomicU64>,
    holds: Vec<AtomicU32>,
    metas: Vec<[AtomicU64; META_WORDS]>,
    arena: Vec<AtomicU64>,
    pub prefaulted: AtomicU64,
}

impl TestMemory {
    pub fn new(n_slots: u32) -> Self {
        let n = n_slots as usize;
        Self {
            words: (0..n).map(|_| AtomicU64::new(0)).collect(),
            holds: (0..n).map(|_| AtomicU32::new(0)).collect(),
            metas: (0..n).map(|_| Default::default()).collect(),
            arena: (0..n * SLOT_SIZE / 8).map(|_| AtomicU64::new(0)).collect(),
            prefaulted: AtomicU64::new(0),
        }
    }

    pub fn held(&self, slot: u32) -> bool {
        self.holds[slot as usize].load(SeqCst) != 0
    }

    /// The guest's `get_ref`; false if the slot is held.
    pub fn get_ref(&self, slot: u32) -> bool {
        let word = &self.words[slot as usize];
        word.fetch_add(1, SeqCst);
        if self.held(slot) {
            word.fetch_sub(1, SeqCst);
            return false;
        }
        true
    }

    /// The guest's `put_ref`: publishes, drops the reference, starts the next generation if it was the last one.
    pub fn put_ref(&self, slot: u32, meta: &SlotMeta) -> u64 {
        for (at, value) in self.metas[slot as usize].iter().zip(meta_words(meta)) {
            at.store(value, Relaxed);
        }
        let next = |w: u64| {
            let (word, rest) = (SlotWord(w), SlotWord(w - 1));
            Some(if word.refs() == 1 { rest.released().0 } else { rest.0 })
        };
        let before = self.words[slot as usize].fetch_update(Release, Relaxed, next).unwrap_or_default();
        SlotWord(before).generation() + 1
    }

    /// One aligned word of the arena, as the guest stores it.
    pub fn store(&self, slot: u32, offset: usize, value: u64) {
        self.arena[(slot as usize * SLOT_SIZE + offset) / 8].store(value, Relaxed);
    }

    fn at(&self, slot: u32, byte: usize) -> (&AtomicU64, u32) {
        let address = slot as usize * SLOT_SIZE + byte;
        (&self.arena[address / 8], (address % 8) as u32 * 8)
    }

    fn in_slot(&self, slot: u32, offset: usize, len: usize) -> bool {
        (slot as usize) < self.words.len() && offset.checked_add(len).is_some_and(|end| end <= SLOT_SIZE)
    }
}

/// Metadata with everything live from offset 0.
pub fn meta(incarnation: u64, live: &[(u32, u32)]) -> SlotMeta {
    let mut meta = SlotMeta { incarnation, connections: connection_bit::present(0), ..SlotMeta::default() };
    for (place, (offset, len)) in meta.live.iter_mut().zip(live) {
        *place = LiveRange { offset: *offset, len: *len };
    }
    meta
}

fn pair(n: ConnectionNumbers) -> u64 {
    u64::from(n.rcv_nxt) << 32 | u64::from(n.snd_nxt)
}

fn meta_words(m: &SlotMeta) -> [u64; META_WORDS] {
    let mut words = [0; META_WORDS];
    for (word, range) in words.iter_mut().zip(&m.live) {
        *word = u64::from(range.offset) << 32 | u64::from(range.len);
    }
    words[8..].copy_from_slice(&[
        m.incarnation,
        m.requests,
        u64::from(m.flags) << 32 | u64::from(m.connections),
        pair(m.numbers[0]),
        pair(m.numbers[1]),
        pair(m.numbers[2]),
        pair(m.numbers[3]),
        m.serials.iter().fold(0, |word, serial| word << 16 | u64::from(*serial)),
    ]);
    words
}

impl SlotMemory for TestMemory {
    fn n_slots(&self) -> u32 {
        self.words.len() as u32
    }
    fn word(&self, slot: u32) -> Option<SlotWord> {
        self.words.get(slot as usize).map(|word| SlotWord(word.load(SeqCst)))
    }
    fn set_hold(&self, slot: u32, held: bool) {
        self.holds[slot as usize].store(u32::from(held), SeqCst);
    }
    fn meta(&self, slot: u32) -> Option<SlotMeta> {
        let words = self.metas.get(slot as usize)?.each_ref().map(|word| word.load(Relaxed));
        let mut meta = SlotMeta::default();
        for (range, word) in meta.live.iter_mut().zip(words) {
            *range = LiveRange { offset: (word >> 32) as u32, len: word as u32 };
        }
        meta.incarnation = words[8];
        (meta.requests, meta.flags, meta.connections) = (words[9], (words[10] >> 32) as u32, words[10] as u32);
        meta.serials = std::array::from_fn(|i| (words[15] >> (48 - 16 * i)) as u16);
        for (numbers, word) in meta.numbers.iter_mut().zip(&words[11..]) {
            *numbers = ConnectionNumbers { rcv_nxt: (word >> 32) as u32, snd_nxt: *word as u32 };
        }
        Some(meta)
    }
    fn read(&self, slot: u32, offset: usize, into: &mut [u8]) -> bool {
        if !self.in_slot(slot, offset, into.len()) {
            return false;
        }
        let mut next = 0;
        while next < into.len() {
            let (word, shift) = self.at(slot, offset + next);
            let bytes = (word.load(Relaxed) >> shift).to_le_bytes();
            let n = (8 - shift as usize / 8).min(into.len() - next);
            into[next..next + n].copy_from_slice(&bytes[..n]);
            next += n;
        }
        true
    }
    fn write(&self, slot: u32, offset: usize, from: &[u8]) -> bool {
        if !self.in_slot(slot, offset, from.len()) {
            return false;
        }
        for (n, byte) in from.iter().enumerate() {
            let (word, shift) = self.at(slot, offset + n);
            word.store(word.load(Relaxed) & !(0xff << shift) | u64::from(*byte) << shift, Relaxed);
        }
        fence(Acquire);
        true
    }
    fn prefault(&self, _slot: u32, _offset: usize, len: usize) {
        self.prefaulted.fetch_add(len as u64, Relaxed);
    }
    fn set_word(&self, slot: u32, word: SlotWord) {
        self.words[slot as usize].store(word.0, SeqCst);
    }
}
