//! A connection that is a slice, in the process that serves it.

use crate::channel::{Channel, Message};
use crate::slot::layout::{RX_SIZE, TX_SIZE};
use crate::wire::{Flow as Went, Wire};
use crate::{ProcessError, Session, SliceMemory, SlotState, tcp_flag};
use escape_capsule::SliceKey;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a turn waits for a slot that the host holds: a capture takes microseconds.
const HELD_MAX: Duration = Duration::from_millis(2);

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<R> {
    /// The program worked on the slice, and this is what it said.
    Done(R),
    /// The host holds the slice: try again soon (it is edge-triggered pollers' own business to remember that).
    Held,
    /// The connection is over; the agent sees to its end. Drop it.
    Over,
}

/// A connection that is a slice. Dropping it ends the connection, after what was written.
#[derive(Debug)]
pub struct Connection {
    key: SliceKey,
    memory: SliceMemory,
    state: *mut SlotState,
    wire: Wire,
    agent: Channel,
    over: bool,
    due: bool,
}

// SAFETY: the slot belongs to this value alone; see `SliceMemory`.
unsafe impl Send for Connection {}

impl Connection {
    /// A slice of this process; `sent`: bytes of its output that the socket's kernel has had.
    pub(crate) fn new(
        key: SliceKey,
        memory: SliceMemory,
        socket: OwnedFd,
        plugged: bool,
        agent: Channel,
    ) -> Result<Self, ProcessError> {
        let state = memory.slot(key.slot).ok_or(ProcessError::BadSlot { slot: key.slot, why: "beyond the arena" })?;
        // SAFETY: the agent has made the slice or checked it, and gives each to one process once.
        let tcp = unsafe {
            (*state).check(key)?;
            (*state).tcp
        };
        let wire = Wire::new(socket, if plugged { tcp.written } else { 0 })?;
        Ok(Self { key, memory, state, wire, agent, over: false, due: false })
    }

    /// The slice.
    pub const fn key(&self) -> SliceKey {
        self.key
    }

    /// One turn: reads what has come in, lets the program work on the slice, publishes it, and gives the kernel what was written.
    /// To be called when the socket is readable or has room, and once for a new or plugged connection.
    pub fn work<R>(&mut self, program: impl FnOnce(&mut Session<'_>) -> R) -> Result<Turn<R>, ProcessError> {
        if self.over {
            return Ok(Turn::Over);
        }
        if !self.take_ref() {
            return Ok(Turn::Held);
        }
        let slot = self.state.cast::<u8>();
        // SAFETY: a reference is held, and the slot is this connection's alone.
        let state = unsafe { &mut *self.state };
        // SAFETY: as above.
        let came = unsafe { self.wire.fill(slot, state) };
        self.wire.trim(state);
        // SAFETY: as above; `state` is not used until the session is gone.
        let said = program(&mut unsafe { Session::new(slot, &mut *state) });
        let full = state.tcp.unacknowledged() > TX_SIZE / 2;
        state.tcp.flags |= tcp_flag::ADOPTED;
        state.tcp.seen_us = state.tcp.seen_us.max(wall_us());
        self.memory.put_ref(self.key.slot, || state.meta());
        // Behind the publication: what the kernel sends is in the published state.
        // SAFETY: as above; only read.
        let went = unsafe { self.wire.flush(slot, state) };
        let unread = state.tcp.input_end.saturating_sub(state.tcp.input_start) as usize;
        // A program that found little room wants to hear when there is more. The kernel tells of room only who was told that there is none.
        self.due = full && !self.wire.will_tell_of_room() || self.wire.has_more() && unread < RX_SIZE;
        let broken = came == Went::Broken || went == Went::Broken;
        if broken || state.tcp.is(tcp_flag::END_WRITTEN) {
            self.end()?;
        } else if went == Went::Open(0) {
            self.agent.send(Message::Changed { slice: self.key }, &[])?;
        }
        Ok(Turn::Done(said))
    }

    fn take_ref(&self) -> bool {
        let begun = Instant::now();
        while self.memory.refs().get_ref(self.key.slot).is_err() {
            if begun.elapsed() > HELD_MAX {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// The last turn left something to do although no event will say so: work again soon.
    pub const fn is_due(&self) -> bool {
        self.due && !self.over
    }

    /// The agent does the rest.
    fn end(&mut self) -> Result<(), ProcessError> {
        self.over = true;
        self.agent.send(Message::Closing { slice: self.key, sent: self.wire.sent() }, &[])
    }

    /// The slice is not this process's any more: drops the connection in silence.
    pub fn forget(mut self) {
        self.over = true;
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.over {
            // An agent that is gone has nothing to be told.
            let _ = self.work(|session| session.close());
        }
    }
}

/// The wall clock, microseconds since 1970.
pub fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
