//! Slices that come and go by the host's word.

use crate::host::Host;
use crate::server::{NO_SLOT, Server};
use crate::slice_slot::SliceSlot;
use crate::tcp::{TcpEvent, WRONG_IMAGE};
use core::sync::atomic::Ordering;
use escape_abi::GuestMessage;
use escape_abi::message::{Flow, refusal};
use escape_abi::meta::CONNECTIONS_MAX;
use escape_capsule::{CapsuleHandle, CapsuleList, LocalAgent, SliceError, SliceKey, SliceRecord};

impl<H: Host> Server<H> {
    /// The slice's bytes are in the slot: attach it, layer by layer, and force its output.
    pub(super) fn plug(&mut self, slot: u32, incarnation: u64) {
        let status = match self.attach(SliceKey { slot, incarnation }) {
            Ok(()) => 0,
            Err(SliceError::Taken { .. }) => refusal::BUSY,
            Err(SliceError::Refused { why, .. }) if why == WRONG_IMAGE => refusal::WRONG_IMAGE,
            Err(_) => refusal::BAD_HEADER,
        };
        if status != 0 {
            self.counters.plug_refused += 1;
            self.tcp.wire.tell(GuestMessage::Plugged { slot, incarnation, status });
            return;
        }
        self.counters.plugged += 1;
        self.pool.occupy(slot);
        match self.run(slot, None, TcpEvent::Plugged) {
            Ok(()) => self.tcp.wire.tell(GuestMessage::Plugged { slot, incarnation, status: 0 }),
            Err(_) => self.defer_plugged(slot),
        }
    }

    fn attach(&mut self, key: SliceKey) -> Result<(), SliceError> {
        let bad = SliceError::BadRecord { slot: key.slot, incarnation: key.incarnation };
        if self.tcp.incarnation(key.slot).is_some() {
            let id = escape_capsule::CapsuleId::new(key, crate::slot::TCP_LAYER);
            return Err(SliceError::Taken { id });
        }
        if let Some(note) = self.notes.get_mut(key.slot as usize).filter(|n| n.poisoned != 0) {
            note.poisoned = 0;
            self.memory.refs().forget_refs(key.slot);
        }
        // The header first: it says whether the rest can be read at all.
        let id = escape_capsule::CapsuleId::new(key, crate::slot::TCP_LAYER);
        self.tcp.header_ok(key).map_err(|why| SliceError::Refused { id, why })?;
        let record = self.record(key.slot).ok_or(bad)?;
        LocalAgent::plug_slice(&record, key, &mut [&mut self.tcp, &mut self.session], &[])
    }

    fn record(&self, slot: u32) -> Option<SliceRecord> {
        let place = self.memory.state(slot)?;
        // SAFETY: the host named the slot, so it is mapped; a record is integers only.
        Some(unsafe { (&raw const (*place).record).read() })
    }

    /// Detaches the slice once its references are gone; leaves its bytes.
    pub(super) fn unplug(&mut self, slot: u32, incarnation: u64) {
        if self.tcp.incarnation(slot) != Some(incarnation) {
            self.give_up_poisoned(slot, incarnation);
            self.tcp.wire.tell(GuestMessage::Unplugged { slot, incarnation });
        } else if !self.try_unplug(slot, incarnation) {
            self.defer_unplug(slot);
        }
    }

    /// Unplugs unless references are out; `true` = done, the host is told.
    pub(super) fn try_unplug(&mut self, slot: u32, incarnation: u64) -> bool {
        if let Some(record) = self.record(slot) {
            let layers: &mut [&mut dyn escape_capsule::CapsuleList] = &mut [&mut self.session, &mut self.tcp];
            let unplugged = LocalAgent::unplug_slice(&record, self.memory.refs(), layers, &mut []);
            // Any other failure is a damaged record: the layers are told below.
            if let Err(SliceError::Referenced { .. }) = unplugged {
                return false;
            }
        }
        self.forget(slot);
        self.tcp.wire.tell(GuestMessage::Unplugged { slot, incarnation });
        true
    }

    /// Forgets the slice in silence.
    pub(super) fn discard(&mut self, slot: u32, incarnation: u64) {
        if self.tcp.incarnation(slot) == Some(incarnation) {
            self.forget(slot);
        }
        self.give_up_poisoned(slot, incarnation);
        self.tcp.wire.tell(GuestMessage::Unplugged { slot, incarnation });
    }

    /// The slice's end is acknowledged: the slot may be used again.
    pub(super) fn slot_free(&mut self, slot: u32, incarnation: u64) {
        self.give_up_poisoned(slot, incarnation);
        let poisoned = self.notes.get(slot as usize).is_some_and(|n| n.poisoned != 0);
        if self.tcp.incarnation(slot).is_none() && !poisoned {
            self.pool.release(slot);
        }
    }

    /// The host knows nothing of this connection any more: its place may be used again.
    pub(super) fn connection_free(&mut self, slot: u32, incarnation: u64, flow: Flow) {
        if self.tcp.incarnation(slot) == Some(incarnation) && !self.try_connection_free(slot, flow) {
            self.defer_connection_free(slot, flow);
        }
    }

    /// Frees the place of a connection unless the host holds the slice; `true` = done.
    pub(super) fn try_connection_free(&mut self, slot: u32, flow: Flow) -> bool {
        let handle = CapsuleHandle(u64::from(slot));
        let Some(state) = self.memory.state(slot) else { return true };
        if self.tcp.get_ref(handle).is_err() {
            return false;
        }
        self.referenced.store(slot, Ordering::Release);
        // SAFETY: as in `run`.
        let (freed, over) = self.free_place(&mut unsafe { SliceSlot::new(state) }, flow);
        self.tcp.put_ref(handle);
        self.referenced.store(NO_SLOT, Ordering::Release);
        self.settle_freed(slot, freed, over);
        true
    }

    /// Returns which places it was, one bit each, and whether the slice is over with this.
    fn free_place(&mut self, slice: &mut SliceSlot, flow: Flow) -> (u16, bool) {
        let (slot, present) = (slice.header().key.slot, slice.header().present);
        let taken = (0..CONNECTIONS_MAX).filter(|place| present >> place & 1 != 0);
        let of_flow = taken.filter(|place| slice.connection(*place).tcp.flow == flow).fold(0, |bits, p| bits | 1 << p);
        for place in (0..CONNECTIONS_MAX).filter(|place| of_flow >> place & 1 != 0) {
            let header = slice.header();
            if header.ended >> place & 1 == 0 {
                // Its binding was refused.
                self.session.end_connection(&mut slice.connection(place));
                self.tcp.attached.detach_flow(slot, place);
            }
            let header = slice.header();
            (header.present, header.ended) = (header.present & !(1 << place), header.ended & !(1 << place));
        }
        let header = slice.header();
        let over = header.open_places().next().is_none();
        header.closed = u16::from(over);
        (of_flow, over)
    }

    /// The host has given a poisoned slice up: only now may its word say that nobody is inside, or torn bytes would be captured.
    fn give_up_poisoned(&mut self, slot: u32, incarnation: u64) {
        if let Some(note) = self.notes.get_mut(slot as usize).filter(|n| n.poisoned == incarnation && incarnation != 0)
        {
            note.poisoned = 0;
            self.memory.refs().forget_refs(slot);
        }
    }

    /// A panic or fault happened while `slot` was referenced: its slice is lost, the guest goes on. Called on a fresh stack.
    ///
    /// The slot's references stay out until the host gives the slice up (`Discard`, `Unplug`, `SlotFree`, or another `Plug`): its bytes are
    /// no consistent cut, and must not be taken for one.
    pub fn poison(&mut self, slot: u32, cause: u32) {
        self.referenced.store(NO_SLOT, Ordering::Release);
        let incarnation = match self.tcp.incarnation(slot) {
            Some(incarnation) => incarnation,
            // In the middle of being made, or not ours at all.
            None => self.record(slot).map_or(0, |r| r.key().incarnation),
        };
        self.counters.poisoned += 1;
        self.forget(slot);
        if let Some(note) = self.notes.get_mut(slot as usize) {
            note.poisoned = incarnation;
        }
        self.tcp.wire.tell(GuestMessage::Poisoned { slot, incarnation, cause });
    }
}
