//! One event of one slice, inside one reference.

use crate::host::Host;
use crate::server::{NO_SLOT, Server};
use crate::slice_slot::SliceSlot;
use crate::tcp::{TcpEvent, phase};
use core::sync::atomic::Ordering;
use escape_abi::GuestMessage;
use escape_abi::meta::CONNECTIONS_MAX;
use escape_capsule::{CapsuleHandle, CapsuleList, SliceError};

/// What is left to do when the reference is back.
#[derive(Default)]
struct After {
    over: bool,
    abandoned: bool,
    /// Places whose connection ended now although the slice goes on, one bit each.
    ended: u16,
    /// Places whose connection is in SYN-RECEIVED.
    embryonic: u16,
    /// Places that were run.
    seen: u16,
    frames: u32,
    deadline: i64,
}

/// The numbers by which a SYN or RST is judged.
#[derive(Default)]
pub(super) struct HandshakeNumbers {
    /// The peer's initial sequence number.
    pub(super) first: u32,
    /// The next that is expected.
    pub(super) next: u32,
}

impl<H: Host> Server<H> {
    /// Runs the connection in a place of a slice, or all of its connections: TCP in, session, TCP out; then publishes the slice's new
    /// generation.
    ///
    /// # Errors
    /// [`SliceError::Held`]: nothing was done.
    pub(super) fn run(&mut self, slot: u32, only: Option<usize>, event: TcpEvent<'_>) -> Result<(), SliceError> {
        let handle = CapsuleHandle(u64::from(slot));
        let Some(state) = self.memory.state(slot).filter(|_| self.tcp.incarnation(slot).is_some()) else {
            return Ok(());
        };
        self.tcp.get_ref(handle)?;
        self.referenced.store(slot, Ordering::Release);
        // SAFETY: an attached slice: this image made its state or checked it at plug, and the reference that was just taken keeps the host from
        // writing. No other reference to the state exists: it is made here only, and ends with this block.
        let after = self.step(&mut unsafe { SliceSlot::new(state) }, only, event);
        self.tcp.put_ref(handle);
        self.referenced.store(NO_SLOT, Ordering::Release);
        self.settle(slot, &after);
        Ok(())
    }

    fn step(&mut self, slice: &mut SliceSlot, only: Option<usize>, event: TcpEvent<'_>) -> After {
        let mut after = After::default();
        let places = slice.header().open_places();
        for place in places.filter(|place| only.is_none_or(|only| only == *place)) {
            self.step_connection(slice, place, event, &mut after);
        }
        // What they did may be what another one waited for.
        for place in slice.header().open_places() {
            if slice.connection(place).served.waits != 0 && !slice.others_send_values(place) {
                self.step_connection(slice, place, TcpEvent::Resume, &mut after);
            }
        }
        let header = slice.header();
        after.over = header.open_places().next().is_none();
        if after.over {
            // They end with the slice, and not before it.
            header.ended &= !after.ended;
            header.closed = 1;
        }
        after.deadline = if after.over { 0 } else { self.deadline(slice) };
        after
    }

    fn step_connection(&mut self, slice: &mut SliceSlot, place: usize, event: TcpEvent<'_>, after: &mut After) {
        let others_send = slice.others_send_values(place);
        after.seen |= 1 << place;
        let mut c = slice.connection(place);
        let c = &mut c;
        self.tcp.enter(c);
        let resent = self.tcp.handle(c, event);
        if c.tcp.abandoned == 0 {
            let handle = CapsuleHandle(u64::from(c.header.key.slot));
            // The session's own reference; TCP holds one, so no hold can refuse it.
            if self.session.get_ref(handle).is_ok() {
                self.session.run(c, others_send);
                self.session.put_ref(handle);
            }
            self.tcp.egress(c);
        }
        if self.tcp.settle(c, resent) {
            self.session.end_connection(c);
            c.header.ended |= 1 << place;
            after.ended |= 1 << place;
            after.abandoned |= c.tcp.abandoned != 0;
        } else if c.tcp.phase == phase::EMBRYONIC {
            after.embryonic |= 1 << place;
        }
        after.frames += self.tcp.wire.emitted.frames;
    }

    /// When a connection of the slice wants to be run next, in guest time.
    fn deadline(&mut self, slice: &mut SliceSlot) -> i64 {
        let now = self.tcp.wire.host.now_us();
        let mut at = i64::MAX;
        for place in slice.header().open_places() {
            let mut c = slice.connection(place);
            at = at.min(self.tcp.deadline(&mut c));
            if let Some(wake_at) = self.session.wake_at(&c) {
                let clock = now.wrapping_add(self.tcp.attached.offset(c.header.key.slot)).max(c.header.clock);
                at = at.min(wake_at - clock + now);
            }
        }
        at
    }

    fn settle(&mut self, slot: u32, after: &After) {
        for place in (0..CONNECTIONS_MAX).filter(|place| after.ended >> place & 1 != 0) {
            self.tcp.attached.detach_flow(slot, place);
        }
        let Some(note) = self.notes.get_mut(slot as usize) else { return };
        let over = note.embryonic & after.seen & !after.embryonic;
        self.embryonic -= over.count_ones() as usize;
        note.embryonic &= !over;
        if after.over {
            self.counters.closed += 1;
            self.counters.abandoned += u64::from(after.abandoned);
            let incarnation = self.tcp.incarnation(slot).unwrap_or(0);
            self.forget(slot);
            self.tcp.wire.tell(GuestMessage::Close { slot, incarnation });
            return;
        }
        // A frame tells the host by itself.
        if after.frames > 0 {
            note.changed = false;
        } else if !note.changed {
            note.changed = true;
            self.changed.push(slot);
        }
        self.timers.arm(slot, after.deadline);
    }

    /// After places were freed, told by one bit each; `over` = the slice is finished with that.
    pub(super) fn settle_freed(&mut self, slot: u32, freed: u16, over: bool) {
        let deadline = self.tcp.wire.host.now_us();
        self.settle(slot, &After { over, seen: freed, deadline, ..After::default() });
    }

    /// A deadline that may have moved on since it was armed.
    pub(super) fn on_deadline(&mut self, slot: u32, now: i64) {
        let Some(state) = self.memory.state(slot).filter(|_| self.tcp.incarnation(slot).is_some()) else { return };
        // SAFETY: as in `run`, except that no reference is held: the host may be reading, and nothing is written here.
        let at = self.deadline(&mut unsafe { SliceSlot::new(state) });
        if at > now {
            self.timers.arm(slot, at);
        } else if self.run(slot, None, TcpEvent::Timer).is_err() {
            self.counters.deferred += 1;
            self.timers.arm(slot, now + super::RETRY_US);
        }
    }

    pub(super) fn handshake_numbers(&self, slot: u32, place: usize) -> HandshakeNumbers {
        let attached = self.tcp.incarnation(slot).is_some();
        let Some(state) = self.memory.state(slot).filter(|_| attached) else { return HandshakeNumbers::default() };
        // SAFETY: an attached slice; this guest does not write to it now, and the host never does.
        let mut slice = unsafe { SliceSlot::new(state) };
        let tcp = slice.connection(place).tcp;
        HandshakeNumbers { first: tcp.irs(), next: tcp.rcv_nxt() }
    }

    /// Forgets a slice without looking at its slot.
    pub(super) fn forget(&mut self, slot: u32) {
        self.tcp.attached.detach(slot);
        self.session.detach(slot);
        self.timers.disarm(slot);
        self.deferred.forget(slot);
        if let Some(note) = self.notes.get_mut(slot as usize) {
            self.embryonic -= core::mem::take(&mut note.embryonic).count_ones() as usize;
            note.changed = false;
        }
    }

    /// Tells the host which slices changed without output. What the ring has no room for waits.
    pub(super) fn tell_changed(&mut self) {
        while let Some(slot) = self.changed.pop() {
            let Some(note) = self.notes.get_mut(slot as usize).filter(|n| n.changed) else { continue };
            if !self.tcp.wire.try_tell(GuestMessage::Changed { slot }) {
                self.changed.push(slot);
                return;
            }
            note.changed = false;
        }
    }
}
