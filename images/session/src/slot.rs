//! What lies in a slot, and where.

use crate::clock::CLOCK_START;
use crate::http::BodyScratch;
use crate::session::SessionState;
use crate::tcp::TcpState;
use core::mem::{MaybeUninit, offset_of};
use escape_abi::message::Flow;
use escape_abi::meta::{SlotMeta, meta_flag};
use escape_capsule::{LayerId, LiveSet, Region, SliceKey, SliceRecord};

/// Offsets in a slot.
pub mod layout {
    use escape_abi::layout::SLOT_SIZE;
    /// Receive ring. Before it: header, capsules' state, and space for a request body's state.
    pub const RX_AT: usize = 8 << 10;
    /// Bytes of the receive ring.
    pub const RX_SIZE: usize = 32 << 10;
    /// Transmit ring.
    pub const TX_AT: usize = RX_AT + RX_SIZE;
    /// Bytes of the transmit ring.
    pub const TX_SIZE: usize = 64 << 10;
    /// The session's heap: the rest of the slot.
    pub const HEAP_AT: usize = TX_AT + TX_SIZE;
    /// Bytes of the heap.
    pub const HEAP_SIZE: usize = SLOT_SIZE - HEAP_AT;
}
use layout::{HEAP_AT, HEAP_SIZE, RX_AT, RX_SIZE, TX_AT, TX_SIZE};

/// "ESCSLICE" little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ESCSLICE");
/// The TCP capsule's layer.
pub(crate) const TCP_LAYER: LayerId = LayerId(1);
/// The session capsule's layer.
pub(crate) const SESSION_LAYER: LayerId = LayerId(2);

/// Who the slice is, and its clock.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct SlotHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// Image that made it; only the same image can read it (see `BootParams::image_id`).
    pub image_id: u64,
    pub key: SliceKey,
    /// The slice's own clock, us: runs while the slice is plugged somewhere, stands still between, never goes back.
    pub clock: i64,
    /// How far smoltcp's time is ahead of `clock`: the jumps that made it send early.
    pub skew: i64,
    pub flow: Flow,
    pub peer_mac: [u8; 6],
    pub closed: u16,
    /// TCP timestamps are this plus `clock` in milliseconds.
    pub ts_base: u32,
}

/// The slice's state outside rings and heap.
#[repr(C, align(64))]
pub(crate) struct SlotState {
    pub header: SlotHeader,
    pub tcp: TcpState,
    pub session: SessionState,
    pub record: SliceRecord,
    /// Alive only while a request body is being read.
    pub scratch: MaybeUninit<BodyScratch>,
}

/// Bytes that are always alive.
const ALWAYS: usize = offset_of!(SlotState, scratch);
const _: () = assert!(size_of::<SlotState>() <= RX_AT, "the slot's state must fit before the receive ring");

impl SlotState {
    /// The slice's state as its two capsules declared it.
    pub(crate) fn regions() -> ([Region; 3], [Region; 3]) {
        let region = |from: usize, to: usize| Region { offset: from as u32, len: (to - from) as u32 };
        let session_at = offset_of!(SlotState, session);
        (
            [region(0, session_at), region(RX_AT, TX_AT), region(TX_AT, HEAP_AT)],
            [region(session_at, ALWAYS), region(ALWAYS, size_of::<SlotState>()), region(HEAP_AT, HEAP_AT + HEAP_SIZE)],
        )
    }

    /// What of the slot is the slice's state now: what a standby needs to go on with it.
    pub(crate) fn live(&self) -> LiveSet {
        let mut live = LiveSet::new();
        // Two ranges, because each lies in a region of its own capsule; adjacent ones cost nothing.
        let session_at = offset_of!(SlotState, session);
        live.add(0, session_at as u32);
        live.add(session_at as u32, (ALWAYS - session_at) as u32);
        if self.header.closed != 0 {
            return live;
        }
        if self.session.reads_body() {
            live.add(ALWAYS as u32, size_of::<BodyScratch>() as u32);
        }
        let (rx, tx) = self.tcp.live_rings();
        live.add_ring(RX_AT as u32, RX_SIZE as u32, rx.start, rx.len);
        live.add_ring(TX_AT as u32, TX_SIZE as u32, tx.start, tx.len);
        live.add(HEAP_AT as u32, self.session.heap_extent());
        live
    }

    /// What is published at `put_ref`.
    pub(crate) fn meta(&self) -> SlotMeta {
        let live = self.live().ranges();
        // No capsule may keep state where it declared none.
        debug_assert!(live.iter().all(|r| r.len == 0 || self.record.declares(*r)), "{live:?}");
        SlotMeta {
            live,
            incarnation: self.header.key.incarnation,
            rcv_nxt: self.tcp.rcv_nxt(),
            snd_nxt: self.tcp.snd_nxt(),
            requests: self.session.requests(),
            flags: if self.header.closed != 0 { meta_flag::CLOSED } else { 0 },
            reserved: [0; 7],
        }
    }
}

impl SlotHeader {
    pub(crate) fn new(key: SliceKey, image_id: u64, flow: Flow, peer_mac: [u8; 6], ts_base: u32) -> Self {
        Self { magic: MAGIC, image_id, key, clock: CLOCK_START, skew: 0, flow, peer_mac, closed: 0, ts_base }
    }

    /// Moves the clock to the present: `offset` is the slice's clock minus this guest's.
    pub(crate) fn advance(&mut self, now_us: i64, offset: i64) {
        self.clock = self.clock.max(now_us.wrapping_add(offset));
    }

    /// smoltcp's time now.
    pub(crate) const fn stack_now(&self) -> i64 {
        self.clock + self.skew
    }
}
