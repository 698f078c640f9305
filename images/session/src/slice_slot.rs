//! A slot while its slice is worked on.

use crate::http::{BodyScratch, HttpState};
use crate::session::ServedState;
use crate::slot::layout::{HEAP_AT, MORE_SERVED_AT, MORE_TCP_AT};
use crate::slot::{ALWAYS, MORE, MoreServed, SlotHeader, SlotState};
use crate::tcp::TcpState;
use core::mem::{MaybeUninit, offset_of};
use escape_abi::meta::{CONNECTIONS_MAX, ConnectionNumbers, SlotMeta, connection_bit, meta_flag};
use escape_capsule::LiveSet;

/// The state of a slice that lies in a slot. Whoever holds one is the only one who looks at that state.
pub(crate) struct SliceSlot {
    place: *mut SlotState,
}

/// One connection of a slice, and what it shares with the others.
pub(crate) struct Connection<'a> {
    /// Address of the slot.
    pub base: usize,
    pub place: usize,
    pub header: &'a mut SlotHeader,
    pub tcp: &'a mut TcpState,
    pub served: &'a mut ServedState,
    pub scratch: &'a mut MaybeUninit<BodyScratch>,
    pub session: &'a mut HttpState,
}

impl Connection<'_> {
    /// Slice clock of the connection's last request, or of its start.
    pub(crate) fn active_at(&self) -> i64 {
        self.header.active_at.get(self.place).copied().unwrap_or(self.header.clock)
    }

    /// Something was asked for now.
    pub(crate) fn note_active(&mut self) {
        if let Some(at) = self.header.active_at.get_mut(self.place) {
            *at = self.header.clock;
        }
    }

    /// smoltcp's time now.
    pub(crate) const fn stack_now(&self) -> i64 {
        self.header.clock + self.tcp.skew
    }
}

impl SliceSlot {
    /// The slice in the slot at `place`.
    ///
    /// # Safety
    /// The slot is mapped, this image made or checked its state, and nobody else uses it while the value is used.
    pub(crate) const unsafe fn new(place: *mut SlotState) -> Self {
        Self { place }
    }

    /// The slot's address.
    pub(crate) const fn base(&self) -> *mut u8 {
        self.place.cast()
    }

    pub(crate) const fn header(&mut self) -> &mut SlotHeader {
        // SAFETY: by `new`; the borrow of `self` is exclusive.
        unsafe { &mut (*self.place).header }
    }

    /// The connection in a place that has one.
    pub(crate) fn connection(&mut self, place: usize) -> Connection<'_> {
        let base = self.place as usize;
        // SAFETY: by `new`, and the borrow of `self` is exclusive. A place's TCP state and what is served there were written by `add`, or by
        // another guest of this image; the parts do not overlap (`layout`).
        unsafe {
            let first = &mut *self.place;
            let SlotState { header, tcp, session, served, scratch, .. } = first;
            match place.checked_sub(1) {
                None => Connection { base, place, header, tcp, served, scratch, session },
                Some(more) => {
                    let (tcp, other) = more_of(self.place, more.min(MORE - 1));
                    let MoreServed { served, scratch } = &mut *other;
                    Connection { base, place, header, tcp: &mut *tcp, served, scratch, session }
                }
            }
        }
    }

    /// Writes a new connection into a place beside the first.
    pub(crate) fn add(&mut self, place: usize, tcp: TcpState, served: ServedState) {
        let Some(more) = place.checked_sub(1).filter(|more| *more < MORE) else { return };
        // SAFETY: by `new`; the place lies inside the slot, aligned, and apart from all else (`layout`).
        unsafe {
            let (tcp_place, other) = more_of(self.place, more);
            tcp_place.write(tcp);
            other.write(MoreServed { served, scratch: MaybeUninit::uninit() });
        }
        self.header().present |= 1 << place;
    }

    /// Some other connection than the one in `place` is sending a value out of the heap: it must not be freed.
    pub(crate) fn others_send_values(&mut self, place: usize) -> bool {
        let mut others = self.header().open_places().filter(|other| *other != place);
        others.any(|other| self.connection(other).served.http.sends_value())
    }

    /// What of the slot is the slice's state now: what a standby needs to go on with it.
    fn live(&mut self) -> LiveSet {
        let mut live = LiveSet::new();
        // Two ranges, because each lies in a region of its own capsule; adjacent ones cost nothing.
        let session_at = offset_of!(SlotState, session);
        live.add(0, session_at as u32);
        live.add(session_at as u32, (ALWAYS - session_at) as u32);
        let header = *self.header();
        let more = header.present.checked_ilog2().map_or(0, |highest| (highest as usize).min(MORE));
        if more > 0 {
            live.add(MORE_TCP_AT as u32, (more * size_of::<TcpState>()) as u32);
            live.add(MORE_SERVED_AT as u32, (more * size_of::<MoreServed>()) as u32);
        }
        if header.closed != 0 {
            return live;
        }
        if header.present & !header.ended & 1 != 0 && self.connection(0).served.http.reads_body() {
            live.add(ALWAYS as u32, size_of::<BodyScratch>() as u32);
        }
        live.add(HEAP_AT as u32, self.connection(0).session.heap_extent);
        for place in header.open_places() {
            let tcp = self.connection(place).tcp;
            let ((rx, tx), rings) = (tcp.live_rings(), tcp.rings);
            live.add_ring(rings.rx_at, rings.rx_size, rx.start, rx.len);
            live.add_ring(rings.tx_at, rings.tx_size, tx.start, tx.len);
        }
        live
    }

    /// What is published at `put_ref`.
    pub(crate) fn meta(&mut self) -> SlotMeta {
        let live = self.live().ranges();
        // SAFETY: as in `connection`; the record is integers only.
        let record = unsafe { (&raw const (*self.place).record).read() };
        // No capsule may keep state where it declared none.
        debug_assert!(live.iter().all(|r| r.len == 0 || record.declares(*r)), "{live:?}");
        let header = *self.header();
        let mut numbers = [ConnectionNumbers::default(); CONNECTIONS_MAX];
        let mut connections = 0;
        for (place, numbers) in numbers.iter_mut().enumerate().filter(|(place, _)| header.present >> place & 1 != 0) {
            let tcp = self.connection(place).tcp;
            *numbers = ConnectionNumbers { rcv_nxt: tcp.rcv_nxt(), snd_nxt: tcp.snd_nxt() };
            connections |= connection_bit::present(place);
            if header.ended >> place & 1 != 0 {
                connections |= connection_bit::ended(place);
            }
        }
        SlotMeta {
            live,
            incarnation: header.key.incarnation,
            requests: self.connection(0).session.requests,
            numbers,
            flags: if header.closed != 0 { meta_flag::CLOSED } else { 0 },
            connections,
            serials: header.serials,
        }
    }
}

/// Where the state of another connection lies.
///
/// # Safety
/// `slot` is the address of a mapped slot.
unsafe fn more_of(slot: *mut SlotState, more: usize) -> (*mut TcpState, *mut MoreServed) {
    let base = slot.cast::<u8>();
    // SAFETY: `more` is below `MORE` at both callers, and by `layout` all of these lie inside the slot.
    unsafe {
        let tcp = base.add(MORE_TCP_AT).cast::<TcpState>().add(more);
        (tcp, base.add(MORE_SERVED_AT).cast::<MoreServed>().add(more))
    }
}
