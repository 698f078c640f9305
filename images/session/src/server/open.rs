//! New connections.

use crate::frame::Segment;
use crate::host::Host;
use crate::http::HttpState;
use crate::server::Server;
use crate::session::{ServedState, SessionKind};
use crate::slice_slot::SliceSlot;
use crate::slot::{Rings, SESSION_LAYER, SlotHeader, SlotState, TCP_LAYER, regions};
use crate::tcp::{TcpEvent, TcpState};
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use escape_abi::GuestMessage;
use escape_abi::meta::CONNECTIONS_MAX;
use escape_capsule::{CapsuleHandle, CapsuleId, CapsuleList, LocalAgent, SliceError, SliceKey, SliceRecord};

/// Slots in SYN-RECEIVED at once: what a flood of SYNs can take for 5 s.
pub(crate) const EMBRYONIC_SLOTS_MAX: usize = 256;

impl<H: Host> Server<H> {
    /// A SYN for a connection that is not known. Whatever is missing, the answer is silence: the client tries again.
    pub(super) fn open(&mut self, syn: &Segment<'_>, frame: &[u8]) {
        if let Some(slot) = self.tcp.attached.of_client(syn.flow.ip) {
            if self.deferred.has(slot) || self.join(slot, syn).is_err() {
                self.defer_frame(slot, frame);
            }
            return;
        }
        let Some(kind) = self.kind_of(syn) else { return };
        let Some((slot, incarnation)) = self.pool.take() else { return self.counters.syn_no_room += 1 };
        let key = SliceKey { slot, incarnation };
        let handle = CapsuleHandle(u64::from(slot));
        let bind = GuestMessage::Bind { slot, incarnation, flow: syn.flow, place: 0, serial: 0 };
        // A slot that the host is still looking at, or a host that cannot be told of the flow before its first frame.
        if self.tcp.get_ref(handle).is_err() {
            self.pool.untake(slot);
            return self.counters.syn_no_room += 1;
        }
        self.referenced.store(slot, Ordering::Release);
        let made = self.make(key, kind, syn);
        let told = made && self.tcp.wire.try_tell(bind);
        if !told {
            self.forget(slot);
        }
        self.tcp.put_ref(handle);
        self.referenced.store(super::NO_SLOT, Ordering::Release);
        if !told {
            self.pool.untake(slot);
            return self.counters.syn_no_room += 1;
        }
        self.note_opened(slot, 0);
        if self.run(slot, Some(0), TcpEvent::Segment(syn)).is_err() {
            self.defer_frame(slot, frame);
        }
    }

    /// What is served at the SYN's port, if anything is and the SYN may be answered now.
    fn kind_of(&mut self, syn: &Segment<'_>) -> Option<SessionKind> {
        let kind = match syn.flow.service_port {
            p if p == self.params.http_port && p != 0 => SessionKind::Http,
            p if p == self.params.stream_port && p != 0 => SessionKind::Stream,
            _ => {
                self.counters.closed_port += 1;
                return None;
            }
        };
        if !self.tcp.wire.rx_csum_ok() && !syn.checksums_ok() {
            self.counters.bad_checksum += 1;
            return None;
        }
        if self.embryonic >= EMBRYONIC_SLOTS_MAX {
            self.counters.syn_limited += 1;
            return None;
        }
        Some(kind)
    }

    /// A SYN of a client whose slice runs here: another connection of that slice.
    ///
    /// # Errors
    /// [`SliceError::Held`]: nothing was done.
    pub(super) fn join(&mut self, slot: u32, syn: &Segment<'_>) -> Result<(), SliceError> {
        let Some(kind) = self.kind_of(syn) else { return Ok(()) };
        let (Some(state), Some(incarnation)) = (self.memory.state(slot), self.tcp.incarnation(slot)) else {
            return Ok(());
        };
        let handle = CapsuleHandle(u64::from(slot));
        self.tcp.get_ref(handle)?;
        self.referenced.store(slot, Ordering::Release);
        // SAFETY: as in `run`.
        let joined = self.join_place(&mut unsafe { SliceSlot::new(state) }, incarnation, kind, syn);
        self.tcp.put_ref(handle);
        self.referenced.store(super::NO_SLOT, Ordering::Release);
        let Some(place) = joined else {
            self.counters.syn_no_room += 1;
            return Ok(());
        };
        self.note_opened(slot, place);
        // The client sends its SYN again if the slice is held by now.
        let _ = self.run(slot, Some(place), TcpEvent::Segment(syn));
        Ok(())
    }

    /// The place that the new connection has now.
    fn join_place(
        &mut self,
        slice: &mut SliceSlot,
        incarnation: u64,
        kind: SessionKind,
        syn: &Segment<'_>,
    ) -> Option<usize> {
        let header = *slice.header();
        // The same ports have just ended, and the host has not let them go.
        let mut ended = (0..CONNECTIONS_MAX).filter(|place| header.ended >> place & 1 != 0);
        if ended.any(|place| slice.connection(place).tcp.flow == syn.flow) {
            return None;
        }
        let place = header.free_place()?;
        let ts_base = self.ts_base();
        let offset = self.tcp.attached.offset(header.key.slot);
        slice.header().advance(self.tcp.wire.host.now_us(), offset);
        let clock = slice.header().clock;
        let base = slice.base();
        // SAFETY: the slot is attached and referenced; a free place's rings are used by nobody.
        let tcp = unsafe { TcpState::new(base, Rings::of(true, place), syn, ts_base, clock) };
        let served = ServedState::new(kind);
        if place == 0 {
            let c = slice.connection(0);
            (*c.tcp, *c.served) = (tcp, served);
            slice.header().present |= 1;
        } else {
            slice.add(place, tcp, served);
        }
        slice.connection(place).note_active();
        let serial = Self::next_serial(slice, place);
        let bind =
            GuestMessage::Bind { slot: header.key.slot, incarnation, flow: syn.flow, place: place as u32, serial };
        if self.tcp.attached.attach_flow(header.key.slot, place, syn.flow) {
            if self.tcp.wire.try_tell(bind) {
                return Some(place);
            }
            self.tcp.attached.detach_flow(header.key.slot, place);
        }
        slice.header().present &= !(1 << place);
        None
    }

    fn next_serial(slice: &mut SliceSlot, place: usize) -> u16 {
        let Some(serial) = slice.header().serials.get_mut(place) else { return 0 };
        *serial = serial.wrapping_add(1);
        *serial
    }

    fn note_opened(&mut self, slot: u32, place: usize) {
        self.counters.opened += 1;
        self.embryonic += 1;
        if let Some(note) = self.notes.get_mut(slot as usize) {
            note.embryonic |= 1 << place;
        }
    }

    fn ts_base(&mut self) -> u32 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 32) as u32
    }

    /// Writes the slot's first state and declares its capsules.
    fn make(&mut self, key: SliceKey, kind: SessionKind, syn: &Segment<'_>) -> bool {
        let Some(state) = self.memory.state(key.slot) else { return false };
        let (shared, ts_base) = (self.tcp.attached.per_client(), self.ts_base());
        let header = SlotHeader::new(key, self.params.image_id, shared);
        let clock = header.clock;
        let Ok(record) = declare(key, shared) else { return false };
        // SAFETY: a free slot of our own lease, referenced: mapped, and nobody else's. Its rings are used by this socket alone.
        unsafe {
            let tcp = TcpState::new(state.cast(), Rings::of(shared, 0), syn, ts_base, clock);
            let (session, served) = (HttpState::new(), ServedState::new(kind));
            state.write(SlotState { header, tcp, session, record, served, scratch: MaybeUninit::uninit() });
        }
        self.session.attach(key);
        self.tcp.attach(key, clock) && self.tcp.attached.attach_flow(key.slot, 0, syn.flow)
    }
}

/// The slice's two capsules: the session depends on its connection.
fn declare(key: SliceKey, shared: bool) -> Result<SliceRecord, SliceError> {
    let (tcp, session) = (CapsuleId::new(key, TCP_LAYER), CapsuleId::new(key, SESSION_LAYER));
    let (tcp_regions, session_regions) = regions(shared);
    let mut record = SliceRecord::new(key);
    LocalAgent::register_capsule(&mut record, tcp, &tcp_regions)?;
    LocalAgent::register_capsule(&mut record, session, &session_regions)?;
    LocalAgent::set_dep(&mut record, session, tcp)?;
    LocalAgent::create_slice(&mut record, key, session)?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capsules_of_a_slice_can_be_declared() {
        let key = SliceKey { slot: 3, incarnation: 5 };
        for shared in [false, true] {
            assert_eq!(declare(key, shared).and_then(|r| r.verify(key)), Ok(()));
        }
    }
}
