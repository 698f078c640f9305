//! What lies in a slot, and where.

use crate::clock::CLOCK_START;
use crate::http::{BodyScratch, HttpState};
use crate::session::ServedState;
use crate::tcp::TcpState;
use core::mem::{MaybeUninit, offset_of};
use escape_abi::meta::CONNECTIONS_MAX;
use escape_capsule::{LayerId, Region, SliceKey, SliceRecord};

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

    /// Bytes of each of a connection's two rings in a slot with several: receive rings, then transmit rings, then the state of all
    /// connections but the first, share the room of the two large rings.
    pub const SHARED_RING_SIZE: usize = 8 << 10;
    /// TCP state of the other connections.
    pub(crate) const MORE_TCP_AT: usize = RX_AT + 2 * escape_abi::meta::CONNECTIONS_MAX * SHARED_RING_SIZE;
    /// What the session keeps of the other connections.
    pub(crate) const MORE_SERVED_AT: usize = MORE_TCP_AT + (8 << 10);
}
use layout::{HEAP_AT, HEAP_SIZE, MORE_SERVED_AT, MORE_TCP_AT, RX_AT, RX_SIZE, SHARED_RING_SIZE, TX_AT, TX_SIZE};

/// "ESCSLICE" little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ESCSLICE");
/// The TCP capsule's layer.
pub(crate) const TCP_LAYER: LayerId = LayerId(1);
/// The session capsule's layer.
pub(crate) const SESSION_LAYER: LayerId = LayerId(2);

/// Who the slice is, its clock, and which connections it has.
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
    pub closed: u16,
    /// 1: laid out for several connections.
    pub shared: u16,
    /// Places that have a connection, one bit each.
    pub present: u16,
    /// Of these, places whose connection has ended and waits for the host's leave to go.
    pub ended: u16,
    /// Which use of its place each connection is.
    pub serials: [u16; CONNECTIONS_MAX],
    /// Slice clock of each connection's last request, or of its start. Here because the clock changes with every request too: the
    /// first connection's shares its line, and a checkpoint has a line less.
    pub active_at: [i64; CONNECTIONS_MAX],
}

/// The slice's state outside rings and heap. In a slot for several connections, the others' lie at [`MORE_TCP_AT`] and
/// [`MORE_SERVED_AT`].
#[repr(C, align(64))]
pub(crate) struct SlotState {
    pub header: SlotHeader,
    /// The first connection.
    pub tcp: TcpState,
    /// What all connections share.
    pub session: HttpState,
    /// What the session keeps of the first connection.
    pub served: ServedState,
    pub record: SliceRecord,
    /// Alive only while a request body is being read.
    pub scratch: MaybeUninit<BodyScratch>,
}

/// What the session keeps of another connection.
#[repr(C, align(64))]
pub(crate) struct MoreServed {
    pub served: ServedState,
    pub scratch: MaybeUninit<BodyScratch>,
}

/// Connections beside the first.
pub(crate) const MORE: usize = CONNECTIONS_MAX - 1;
/// Bytes that are always alive.
pub(crate) const ALWAYS: usize = offset_of!(SlotState, scratch);
const _: () = {
    assert!(size_of::<SlotState>() <= RX_AT, "the slot's state must fit before the receive ring");
    assert!(MORE_TCP_AT + MORE * size_of::<TcpState>() <= MORE_SERVED_AT);
    assert!(MORE_SERVED_AT + MORE * size_of::<MoreServed>() <= HEAP_AT);
    assert!(MORE_TCP_AT.is_multiple_of(align_of::<TcpState>()));
};

/// Where a connection's two rings lie in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Rings {
    pub rx_at: u32,
    pub rx_size: u32,
    pub tx_at: u32,
    pub tx_size: u32,
}

impl Rings {
    /// Those of the connection in `place`.
    pub(crate) const fn of(shared: bool, place: usize) -> Self {
        let (rx_at, rx_size, tx_at, tx_size) = if shared {
            let (at, size) = (RX_AT + place * SHARED_RING_SIZE, SHARED_RING_SIZE);
            (at, size, at + CONNECTIONS_MAX * SHARED_RING_SIZE, size)
        } else {
            (RX_AT, RX_SIZE, TX_AT, TX_SIZE)
        };
        Self { rx_at: rx_at as u32, rx_size: rx_size as u32, tx_at: tx_at as u32, tx_size: tx_size as u32 }
    }
}

/// The slice's state as its two capsules declare it.
pub(crate) fn regions(shared: bool) -> ([Region; 3], [Region; 3]) {
    let region = |from: usize, to: usize| Region { offset: from as u32, len: (to - from) as u32 };
    let session_at = offset_of!(SlotState, session);
    let heap_end = HEAP_AT + HEAP_SIZE;
    let more = if shared { region(MORE_SERVED_AT, heap_end) } else { region(HEAP_AT, heap_end) };
    let rings = if shared {
        [region(RX_AT, MORE_TCP_AT), region(MORE_TCP_AT, MORE_SERVED_AT)]
    } else {
        [region(RX_AT, TX_AT), region(TX_AT, HEAP_AT)]
    };
    (
        [region(0, session_at), rings[0], rings[1]],
        [region(session_at, ALWAYS), region(ALWAYS, size_of::<SlotState>()), more],
    )
}

impl SlotHeader {
    /// The header of a new slice with one connection.
    pub(crate) fn new(key: SliceKey, image_id: u64, shared: bool) -> Self {
        Self {
            magic: MAGIC,
            image_id,
            key,
            clock: CLOCK_START,
            closed: 0,
            shared: u16::from(shared),
            present: 1,
            ended: 0,
            serials: [0; CONNECTIONS_MAX],
            active_at: [CLOCK_START; CONNECTIONS_MAX],
        }
    }

    /// Moves the clock to the present: `offset` is the slice's clock minus this guest's.
    pub(crate) fn advance(&mut self, now_us: i64, offset: i64) {
        self.clock = self.clock.max(now_us.wrapping_add(offset));
    }

    /// Places whose connection lives.
    pub(crate) fn open_places(&self) -> impl Iterator<Item = usize> + use<> {
        let open = self.present & !self.ended;
        (0..CONNECTIONS_MAX).filter(move |place| open >> place & 1 != 0)
    }

    /// A place without a connection.
    pub(crate) fn free_place(&self) -> Option<usize> {
        let places = if self.shared != 0 { CONNECTIONS_MAX } else { 1 };
        (0..places).find(|place| self.present >> place & 1 == 0)
    }

    /// The places can be as they are said to be.
    pub(crate) const fn places_ok(&self) -> bool {
        let all = if self.shared != 0 { (1 << CONNECTIONS_MAX) - 1 } else { 1 };
        self.shared <= 1 && self.present & !all == 0 && self.ended & !self.present == 0
    }
}
