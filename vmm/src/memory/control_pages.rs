//! The control pages, host side: one memory slot of their own.

use super::error::MemoryError;
use super::shared_mapping::SharedMapping;
use escape_abi::control::{CONTROL_MAGIC, ControlHeader, ControlLayout};
use escape_abi::{RingEntry, SlotMeta};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The words of the header that host and guest talk by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderIndex {
    /// Guest: 1 while it sleeps.
    Asleep,
    /// Host: producer of the host→guest ring.
    HostTail,
    /// Guest: consumer of the host→guest ring.
    HostHead,
    /// Guest: producer of the guest→host ring.
    GuestTail,
    /// Host: consumer of the guest→host ring.
    GuestHead,
}

/// The counters of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderCounter {
    /// Host asks for a sign of life.
    Ping,
    /// Guest gives it.
    Pong,
    /// Guest: main-loop turns.
    Turns,
}

/// Control pages of an arena of `n_slots`.
#[derive(Debug)]
pub struct ControlPages {
    mapping: SharedMapping,
    layout: ControlLayout,
}

impl ControlPages {
    /// Creates the pages with their header written.
    pub fn new(n_slots: u32) -> Result<Self, MemoryError> {
        let layout = ControlLayout::new(n_slots);
        let pages = Self { mapping: SharedMapping::new("control", layout.bytes)?, layout };
        pages.write_header();
        Ok(pages)
    }

    /// Back to the state before the guest's first instruction: words, holds, metadata and rings zero.
    pub fn reset(&self) -> Result<(), MemoryError> {
        self.mapping.clear(0, self.layout.bytes)?;
        self.write_header();
        Ok(())
    }

    fn write_header(&self) {
        self.mapping.write(offset_of!(ControlHeader, n_slots) as u64, &self.layout.n_slots.to_le_bytes());
        self.mapping.write(offset_of!(ControlHeader, magic) as u64, &CONTROL_MAGIC.to_le_bytes());
    }

    /// Where the parts lie.
    pub fn layout(&self) -> &ControlLayout {
        &self.layout
    }

    /// The mapping, for the memory slot.
    pub fn mapping(&self) -> &SharedMapping {
        &self.mapping
    }

    /// A ring index or flag of the header.
    pub fn index(&self, which: HeaderIndex) -> Option<&AtomicU32> {
        let offset = match which {
            HeaderIndex::Asleep => offset_of!(ControlHeader, asleep),
            HeaderIndex::HostTail => offset_of!(ControlHeader, host_tail),
            HeaderIndex::HostHead => offset_of!(ControlHeader, host_head),
            HeaderIndex::GuestTail => offset_of!(ControlHeader, guest_tail),
            HeaderIndex::GuestHead => offset_of!(ControlHeader, guest_head),
        };
        self.mapping.atomic_u32(offset as u64)
    }

    /// A counter of the header.
    pub fn counter(&self, which: HeaderCounter) -> Option<&AtomicU64> {
        let offset = match which {
            HeaderCounter::Ping => offset_of!(ControlHeader, ping),
            HeaderCounter::Pong => offset_of!(ControlHeader, pong),
            HeaderCounter::Turns => offset_of!(ControlHeader, turns),
        };
        self.mapping.atomic_u64(offset as u64)
    }

    /// The word of a slot.
    pub fn word(&self, slot: u32) -> Option<&AtomicU64> {
        self.in_arena(slot)?;
        self.mapping.atomic_u64(self.layout.words + 8 * u64::from(slot))
    }

    /// The hold of a slot.
    pub fn hold(&self, slot: u32) -> Option<&AtomicU32> {
        self.in_arena(slot)?;
        self.mapping.atomic_u32(self.layout.holds + 4 * u64::from(slot))
    }

    /// A volatile copy of a slot's metadata.
    pub fn meta(&self, slot: u32) -> Option<SlotMeta> {
        self.in_arena(slot)?;
        let mut bytes = [0; size_of::<SlotMeta>()];
        let at = self.layout.metas + (size_of::<SlotMeta>() as u64) * u64::from(slot);
        self.mapping.read(at, &mut bytes).then(|| decode_meta(&bytes))
    }

    /// A volatile copy of an entry of the guest→host ring; `at` counts from the ring's first entry.
    pub fn guest_entry(&self, at: u32) -> Option<RingEntry> {
        let mut bytes = [0; size_of::<RingEntry>()];
        let offset = self.layout.guest_ring + (size_of::<RingEntry>() as u64) * u64::from(at);
        self.mapping.read(offset, &mut bytes).then(|| decode_entry(&bytes))
    }

    /// Writes an entry of the host→guest ring.
    pub fn set_host_entry(&self, at: u32, entry: &RingEntry) -> bool {
        let mut bytes = [0; size_of::<RingEntry>()];
        let words = std::iter::once(&entry.kind).chain(&entry.word);
        for (into, word) in bytes.chunks_exact_mut(8).zip(words) {
            into.copy_from_slice(&word.to_le_bytes());
        }
        self.mapping.write(self.layout.host_ring + (size_of::<RingEntry>() as u64) * u64::from(at), &bytes)
    }

    fn in_arena(&self, slot: u32) -> Option<()> {
        (slot < self.layout.n_slots).then_some(())
    }
}

/// The `N` bytes at an offset of a copy; zeros if the offset is wrong, which the tests exclude.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

fn decode_entry(bytes: &[u8; size_of::<RingEntry>()]) -> RingEntry {
    RingEntry {
        kind: u64::from_le_bytes(field(bytes, 0)),
        word: std::array::from_fn(|i| u64::from_le_bytes(field(bytes, 8 + 8 * i))),
    }
}

fn decode_meta(bytes: &[u8; size_of::<SlotMeta>()]) -> SlotMeta {
    let u32_at = |at| u32::from_le_bytes(field(bytes, at));
    let u64_at = |at| u64::from_le_bytes(field(bytes, at));
    let mut meta = SlotMeta::default();
    for (i, range) in meta.live.iter_mut().enumerate() {
        let at = offset_of!(SlotMeta, live) + 8 * i;
        (range.offset, range.len) = (u32_at(at), u32_at(at + 4));
    }
    meta.incarnation = u64_at(offset_of!(SlotMeta, incarnation));
    meta.requests = u64_at(offset_of!(SlotMeta, requests));
    meta.flags = u32_at(offset_of!(SlotMeta, flags));
    for (i, numbers) in meta.numbers.iter_mut().enumerate() {
        let at = offset_of!(SlotMeta, numbers) + 8 * i;
        (numbers.rcv_nxt, numbers.snd_nxt) = (u32_at(at), u32_at(at + 4));
    }
    meta.connections = u32_at(offset_of!(SlotMeta, connections));
    meta.serials = std::array::from_fn(|i| u16::from_le_bytes(field(bytes, offset_of!(SlotMeta, serials) + 2 * i)));
    meta
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use escape_abi::ConnectionNumbers;
    use std::sync::atomic::Ordering::SeqCst;

    #[test]
    fn metadata_is_read_as_the_guest_laid_it_out() {
        let pages = ControlPages::new(64).unwrap();
        let mut meta =
            SlotMeta { incarnation: 5 << 32 | 1, requests: 9, flags: 1, connections: 0x105, ..Default::default() };
        meta.numbers = std::array::from_fn(|i| ConnectionNumbers { rcv_nxt: i as u32 + 20, snd_nxt: i as u32 + 30 });
        for (i, live) in meta.live.iter_mut().enumerate() {
            (live.offset, live.len) = (100 + i as u32, 200 + i as u32);
        }
        meta.serials = [11, 12, 13, 14];
        // SAFETY: SlotMeta is plain data without padding (128 bytes = the sum of its fields).
        let bytes = unsafe { std::slice::from_raw_parts((&raw const meta).cast::<u8>(), size_of::<SlotMeta>()) };
        assert!(pages.mapping().write(pages.layout().metas + 128 * 3, bytes));
        assert_eq!(pages.meta(3), Some(meta));
        assert_eq!(pages.meta(4), Some(SlotMeta::default()));
        assert_eq!(pages.meta(64), None);
    }

    #[test]
    fn reset_zeroes_all_but_the_header() {
        let pages = ControlPages::new(64).unwrap();
        pages.word(63).unwrap().store(9, SeqCst);
        pages.hold(0).unwrap().store(1, SeqCst);
        pages.reset().unwrap();
        assert_eq!(pages.word(63).unwrap().load(SeqCst), 0);
        assert_eq!(pages.hold(0).unwrap().load(SeqCst), 0);
        assert_eq!(pages.mapping().atomic_u64(0).unwrap().load(SeqCst), CONTROL_MAGIC);
        assert!(pages.word(64).is_none() && pages.hold(64).is_none());
    }
}
