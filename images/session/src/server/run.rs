//! One event of one slice, inside one reference.

use crate::host::Host;
use crate::server::{NO_SLOT, Server};
use crate::slot::SlotState;
use crate::tcp::{TcpEvent, phase};
use core::sync::atomic::Ordering;
use escape_abi::GuestMessage;
use escape_capsule::{CapsuleHandle, CapsuleList, SliceError};

/// What is left to do when the reference is back.
struct After {
    over: bool,
    abandoned: bool,
    embryonic: bool,
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
    /// Runs a slice: TCP in, session, TCP out; then publishes its new generation.
    ///
    /// # Errors
    /// [`SliceError::Held`]: nothing was done.
    pub(super) fn run(&mut self, slot: u32, event: TcpEvent<'_>) -> Result<(), SliceError> {
        let handle = CapsuleHandle(u64::from(slot));
        let Some(place) = self.memory.state(slot).filter(|_| self.tcp.incarnation(slot).is_some()) else {
            return Ok(());
        };
        self.tcp.get_ref(handle)?;
        self.referenced.store(slot, Ordering::Release);
        // SAFETY: an attached slice: this image made its state or checked it at plug, and the reference that was just taken keeps the host from
        // writing. No other reference to the state exists: it is made here only, and ends with this block.
        let after = self.step(unsafe { &mut *place }, event);
        self.tcp.put_ref(handle);
        self.referenced.store(NO_SLOT, Ordering::Release);
        self.settle(slot, &after);
        Ok(())
    }

    fn step(&mut self, state: &mut SlotState, event: TcpEvent<'_>) -> After {
        self.tcp.enter(state);
        let resent = self.tcp.handle(state, event);
        if state.tcp.abandoned == 0 {
            let handle = CapsuleHandle(u64::from(state.header.key.slot));
            // The session's own reference; TCP holds one, so no hold can refuse it.
            if self.session.get_ref(handle).is_ok() {
                self.session.run(state);
                self.session.put_ref(handle);
            }
            self.tcp.egress(state);
        }
        let over = self.tcp.settle(state, resent);
        state.header.closed = u16::from(over);
        let mut deadline = if over { 0 } else { self.tcp.deadline(state) };
        if let Some(wake_at) = self.session.wake_at(state) {
            deadline = deadline.min(wake_at - state.header.clock + self.tcp.wire.host.now_us());
        }
        After {
            over,
            abandoned: state.tcp.abandoned != 0,
            embryonic: !over && state.tcp.phase == phase::EMBRYONIC,
            frames: self.tcp.wire.emitted.frames,
            deadline,
        }
    }

    fn settle(&mut self, slot: u32, after: &After) {
        let Some(note) = self.notes.get_mut(slot as usize) else { return };
        if note.embryonic && !after.embryonic {
            self.embryonic -= 1;
        }
        note.embryonic &= after.embryonic;
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

    /// A deadline that may have moved on since it was armed.
    pub(super) fn on_deadline(&mut self, slot: u32, now: i64) {
        let Some(place) = self.memory.state(slot).filter(|_| self.tcp.incarnation(slot).is_some()) else { return };
        // SAFETY: as in `run`, except that no reference is held: the host may be reading, and nothing is written here.
        let state = unsafe { &mut *place };
        let tcp = self.tcp.deadline(state);
        let clock = self.tcp.slice_time(slot, now).max(state.header.clock);
        let wake = self.session.wake_at(state).map(|at| at - clock + now);
        let at = wake.map_or(tcp, |wake| wake.min(tcp));
        if at > now {
            self.timers.arm(slot, at);
        } else if self.run(slot, TcpEvent::Timer).is_err() {
            self.counters.deferred += 1;
            self.timers.arm(slot, now + super::RETRY_US);
        }
    }

    pub(super) fn handshake_numbers(&self, slot: u32) -> HandshakeNumbers {
        let attached = self.tcp.incarnation(slot).is_some();
        let Some(place) = self.memory.state(slot).filter(|_| attached) else { return HandshakeNumbers::default() };
        // SAFETY: an attached slice; this guest does not write to it now, and the host never does.
        let tcp = unsafe { &(*place).tcp };
        HandshakeNumbers { first: tcp.irs(), next: tcp.rcv_nxt() }
    }

    /// Forgets a slice without looking at its slot.
    pub(super) fn forget(&mut self, slot: u32) {
        self.tcp.detach(slot);
        self.session.detach(slot);
        self.timers.disarm(slot);
        self.deferred.forget(slot);
        if let Some(note) = self.notes.get_mut(slot as usize) {
            self.embryonic -= usize::from(core::mem::take(&mut note.embryonic));
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
