//! The session layer of this guest.

use crate::clock::SECOND;
use crate::http::{Exchange, Place, SliceHeap, faults_wanted};
use crate::memory::Memory;
use crate::session::SessionKind;
use crate::slice_slot::{Connection, SliceSlot};
use crate::slot::SESSION_LAYER;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use escape_abi::BootParams;
use escape_arena::Heap;
use escape_capsule::{CapsuleHandle, CapsuleId, CapsuleList, LayerId, SliceError, SliceKey};

/// The layer: which slices' sessions are served here.
pub(crate) struct SessionLayer {
    memory: Memory,
    /// Incarnation by slot; 0 = none.
    plugged: Vec<u64>,
    node: u32,
    /// Idle time after which a session is closed, us; 0 = never.
    idle_us: i64,
    /// Requests may break the guest (`POST /fault`).
    faults: bool,
    /// Grows with every turn, from a random start.
    draws: Cell<u64>,
}

impl SessionLayer {
    pub(crate) fn new(memory: Memory, params: &BootParams, seed: u64) -> Self {
        Self {
            memory,
            plugged: vec![0; memory.n_slots() as usize],
            node: params.node,
            idle_us: i64::from(params.idle_timeout_s) * SECOND,
            faults: faults_wanted(&params.cmdline),
            draws: Cell::new(seed),
        }
    }

    /// A session begins.
    pub(crate) fn attach(&mut self, key: SliceKey) {
        if let Some(place) = self.plugged.get_mut(key.slot as usize) {
            *place = key.incarnation;
        }
    }

    /// A session ended, or is lost.
    pub(crate) fn detach(&mut self, slot: u32) {
        self.attach(SliceKey { slot, incarnation: 0 });
    }

    /// Runs the session on what one of its connections has for it. A reference is held. `others_send` = values that other connections are
    /// sending must stay where they are.
    pub(crate) fn run(&self, c: &mut Connection<'_>, others_send: bool) {
        let key = c.header.key;
        let idle = self.idle_us > 0 && c.header.clock - c.active_at() >= self.idle_us;
        let Connection { base, header, tcp, served, scratch, session, .. } = c;
        // SAFETY: the slice is plugged here and referenced, so its slot is mapped; this is the only use of its heap.
        let heap = unsafe { self.memory.heap(key.slot) };
        let active = tcp.with_pipe(*base, |pipe| {
            pipe.close_if_wanted();
            let active = match served.kind() {
                Some(SessionKind::Http) => {
                    let (before, mut extent) = (session.requests, session.heap_extent);
                    let generation = self.memory.refs().word(key.slot).generation();
                    let (node, clock, faults) = (self.node, header.clock, self.faults);
                    let place = Place { key, generation, node, draw: self.draw(), clock, faults, others_send };
                    let heap = SliceHeap::new(heap, &mut extent);
                    let mut exchange = Exchange {
                        state: session,
                        connection: &mut served.http,
                        scratch,
                        heap,
                        pipe,
                        place,
                        waits: false,
                    };
                    served.waits = u32::from(exchange.run());
                    session.heap_extent = extent;
                    before != session.requests || !served.http.idle()
                }
                Some(SessionKind::Stream) => served.stream.run(pipe),
                None => false,
            };
            if !active && idle && pipe.may_write() {
                match served.kind() {
                    Some(SessionKind::Http) => served.http.close(pipe),
                    _ => served.stream.close(pipe),
                }
            }
            active
        });
        if active {
            c.note_active();
        }
    }

    /// One of the session's connections is over, others are not.
    pub(crate) fn end_connection(&self, c: &mut Connection<'_>) {
        let mut extent = c.session.heap_extent;
        // SAFETY: as in `run`.
        let heap = unsafe { self.memory.heap(c.header.key.slot) };
        c.served.http.give_up(&mut SliceHeap::new(heap, &mut extent));
        c.session.heap_extent = extent;
    }

    /// A number that this guest has not drawn before. Odd steps: 2^64 draws until it repeats.
    fn draw(&self) -> u64 {
        let next = self.draws.get().wrapping_add(0xd134_2543_de82_ef95);
        self.draws.set(next);
        next
    }

    /// Slice clock at which the session has something to do though nothing came: it is idle for too long, or a tick is due. What
    /// could not be done at its time waits for what hinders it, not for a time.
    pub(crate) fn wake_at(&self, c: &Connection<'_>) -> Option<i64> {
        let idle = (self.idle_us > 0).then(|| c.active_at() + self.idle_us);
        [idle, c.served.http.wake_at()].into_iter().flatten().filter(|at| *at > c.header.clock).min()
    }
}

impl CapsuleList for SessionLayer {
    fn layer(&self) -> LayerId {
        SESSION_LAYER
    }

    fn get_id(&self, handle: CapsuleHandle) -> Option<CapsuleId> {
        let slot = u32::try_from(handle.0).ok()?;
        let incarnation = self.plugged.get(slot as usize).copied().filter(|i| *i != 0)?;
        Some(CapsuleId::new(SliceKey { slot, incarnation }, SESSION_LAYER))
    }

    fn get_handle(&self, id: CapsuleId) -> Option<CapsuleHandle> {
        let handle = CapsuleHandle(u64::from(id.slice.slot));
        (self.get_id(handle) == Some(id)).then_some(handle)
    }

    fn unplug_capsule(&mut self, id: CapsuleId, _: &mut [u8]) -> Result<usize, SliceError> {
        self.get_handle(id).ok_or(SliceError::Unknown { id })?;
        self.detach(id.slice.slot);
        Ok(0)
    }

    fn plug_capsule(&mut self, id: CapsuleId, _: &[u8]) -> Result<CapsuleHandle, SliceError> {
        let slot = id.slice.slot;
        let refused = |why| SliceError::Refused { id, why };
        if self.plugged.get(slot as usize).is_none_or(|i| *i != 0) {
            return Err(SliceError::Taken { id });
        }
        let state = self.memory.state(slot).ok_or(SliceError::Unknown { id })?;
        // SAFETY: the TCP capsule, on which this one depends, was plugged before and has checked that this image made the slot.
        let mut slice = unsafe { SliceSlot::new(state) };
        for place in slice.header().open_places() {
            slice.connection(place).served.kind().ok_or(refused("no session's state"))?;
        }
        let extent = slice.connection(0).session.heap_extent;
        if extent != 0 {
            // SAFETY: the slot is mapped, and nobody else is using its heap.
            let heap = Heap::attach(unsafe { self.memory.heap(slot) }).map_err(|_| refused("its heap is damaged"))?;
            if heap.extent() != extent as usize {
                return Err(refused("its heap is not as long as it says"));
            }
        }
        self.attach(id.slice);
        Ok(CapsuleHandle(u64::from(slot)))
    }

    fn get_ref(&self, handle: CapsuleHandle) -> Result<(), SliceError> {
        self.memory.refs().get_ref(u32::try_from(handle.0).unwrap_or(u32::MAX))
    }

    fn put_ref(&self, handle: CapsuleHandle) {
        let slot = u32::try_from(handle.0).unwrap_or(u32::MAX);
        let Some(state) = self.memory.state(slot) else { return };
        // SAFETY: a reference ends, so the slot holds a slice of this guest; nobody borrows its state across this call.
        self.memory.put_ref(slot, || unsafe { SliceSlot::new(state) }.meta());
    }
}
