//! The control pages: header, slot words, holds, slot metadata, and one ring in each direction.

use crate::layout::CONTROL_BASE;
use crate::message::RingEntry;
use crate::meta::SlotMeta;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// "ESCAPCTL" little-endian.
pub const CONTROL_MAGIC: u64 = u64::from_le_bytes(*b"ESCAPCTL");
/// Entries of each ring (a power of two).
pub const RING_ENTRIES: u32 = 8192;

/// First page of the control pages. Each line is written by one side only.
#[repr(C, align(4096))]
pub struct ControlHeader {
    /// [`CONTROL_MAGIC`]; written by the host.
    pub magic: u64,
    /// Slots of the arena; fixes every offset below through [`ControlLayout::new`].
    pub n_slots: u32,
    /// Zero.
    pub reserved: u32,
    /// Line 1, host: raised by the host to ask the agent for a sign of life.
    pub ping: Line,
    /// Line 2, guest: the last `ping` that the agent's main loop has seen.
    pub pong: Line,
    /// Line 3, guest: free-running count of main-loop turns.
    pub turns: Line,
    /// Line 4, guest: 1 from just before the guest halts until it runs again; the host may skip the interrupt when 0.
    pub asleep: LineFlag,
    /// Line 5, host: producer index of the host→guest ring (free-running).
    pub host_tail: LineFlag,
    /// Line 6, guest: consumer index of the host→guest ring.
    pub host_head: LineFlag,
    /// Line 7, guest: producer index of the guest→host ring.
    pub guest_tail: LineFlag,
    /// Line 8, host: consumer index of the guest→host ring.
    pub guest_head: LineFlag,
}

/// A counter alone in its cache line.
#[repr(C, align(64))]
pub struct Line(pub AtomicU64);
/// A 32-bit index or flag alone in its cache line.
#[repr(C, align(64))]
pub struct LineFlag(pub AtomicU32);

/// Offsets of the parts of the control pages for an arena of `n_slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlLayout {
    /// Slots of the arena.
    pub n_slots: u32,
    /// `[AtomicU64; n_slots]`: slot words ([`crate::SlotWord`]).
    pub words: u64,
    /// `[AtomicU32; n_slots]`: the host sets an element to 1 to hold the slot (no new reference may be taken).
    pub holds: u64,
    /// `[SlotMeta; n_slots]`.
    pub metas: u64,
    /// `[RingEntry; RING_ENTRIES]`, host → guest.
    pub host_ring: u64,
    /// `[RingEntry; RING_ENTRIES]`, guest → host.
    pub guest_ring: u64,
    /// Bytes of all, a multiple of 2 MiB.
    pub bytes: u64,
}

impl ControlLayout {
    /// The layout for an arena of `n_slots` (at most [`crate::layout::SLOTS_MAX`]).
    pub const fn new(n_slots: u32) -> Self {
        let n = n_slots as u64;
        let words = size_of::<ControlHeader>() as u64;
        let holds = (words + 8 * n).next_multiple_of(4096);
        let metas = (holds + 4 * n).next_multiple_of(4096);
        let host_ring = (metas + size_of::<SlotMeta>() as u64 * n).next_multiple_of(4096);
        let ring = RING_ENTRIES as u64 * size_of::<RingEntry>() as u64;
        let guest_ring = host_ring + ring;
        let bytes = (guest_ring + ring).next_multiple_of(2 << 20);
        Self { n_slots, words, holds, metas, host_ring, guest_ring, bytes }
    }

    /// Guest-physical address of an offset of this layout.
    pub const fn address(offset: u64) -> u64 {
        CONTROL_BASE + offset
    }
}
