//! A slice while its program works on it.

use crate::slot::layout::{HEAP_AT, HEAP_SIZE, RX_AT, STATE_AT, STATE_SIZE, TX_AT, TX_SIZE};
use crate::{SlotState, tcp_flag};
use escape_abi::message::Flow;
use escape_arena::{Heap, HeapError};
use escape_capsule::SliceKey;

/// A program's state of fixed size.
///
/// # Safety
/// Any bytes, zeros at the beginning, must be a value of it, and it must hold no addresses but of its own slice.
pub unsafe trait SliceState: Copy + 'static {}

/// One turn's view of a slice: a reference is held.
#[derive(Debug)]
pub struct Session<'a> {
    slot: *mut u8,
    state: &'a mut SlotState,
}

impl<'a> Session<'a> {
    /// # Safety
    /// `slot` is the address of a sound slice's slot, `state` the one reference into it, and a reference of the Slice API is held.
    pub(crate) const unsafe fn new(slot: *mut u8, state: &'a mut SlotState) -> Self {
        Self { slot, state }
    }

    /// The slice.
    pub const fn key(&self) -> SliceKey {
        self.state.key()
    }

    /// The connection.
    pub const fn flow(&self) -> Flow {
        self.state.tcp.flow
    }

    /// What has come in and was not consumed.
    pub fn input(&self) -> &[u8] {
        let tcp = &self.state.tcp;
        let len = tcp.input_end.saturating_sub(tcp.input_start) as usize;
        // SAFETY: inside the input buffer, as a sound slice's numbers are; nobody else writes to it in this turn.
        unsafe { std::slice::from_raw_parts(self.slot.add(RX_AT + tcp.input_start as usize), len) }
    }

    /// Takes the first bytes off the input.
    pub fn consume(&mut self, bytes: usize) {
        let left = self.input().len();
        self.state.tcp.input_start += bytes.min(left) as u32;
    }

    /// The client has sent its last byte, and it was consumed.
    pub fn at_end(&self) -> bool {
        self.state.tcp.is(tcp_flag::END_READ) && self.input().is_empty()
    }

    /// The client has sent its last byte; input may be left.
    pub const fn has_end(&self) -> bool {
        self.state.tcp.is(tcp_flag::END_READ)
    }

    /// Bytes that can be written in this turn.
    pub fn room(&self) -> usize {
        if self.state.tcp.is(tcp_flag::END_WRITTEN) { 0 } else { TX_SIZE - self.state.tcp.unacknowledged() }
    }

    /// Writes as much as there is room for; returns how many bytes.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room());
        let at = (self.state.tcp.written % TX_SIZE as u64) as usize;
        // SAFETY: the whole ring lies inside the slot; nobody else looks at what is not published yet.
        let ring = unsafe { std::slice::from_raw_parts_mut(self.slot.add(TX_AT), TX_SIZE) };
        let (before, after) = ring.split_at_mut(at);
        after.iter_mut().chain(before).zip(bytes).take(len).for_each(|(to, from)| *to = *from);
        self.state.tcp.written += len as u64;
        len
    }

    /// Nothing more will be written: the client sees the end behind what was.
    pub const fn close(&mut self) {
        self.state.tcp.flags |= tcp_flag::END_WRITTEN;
    }

    /// A request was answered; people are told the number.
    pub const fn count_request(&mut self) {
        self.state.requests += 1;
    }

    /// Requests answered so far, wherever the slice was.
    pub const fn requests(&self) -> u64 {
        self.state.requests
    }

    /// The program's state of fixed size; zeros in a new slice. At most 4 KiB.
    pub fn state<T: SliceState>(&mut self) -> &mut T {
        const { assert!(size_of::<T>() <= STATE_SIZE && align_of::<T>() <= 64) };
        // What was not the slice's state until now did not come with it: here lies what a former slice has left.
        let (known, wanted) = (self.state.state_len, size_of::<T>() as u32);
        // SAFETY: inside the slot and aligned; any bytes are a value; the borrow of `self` is exclusive.
        unsafe {
            let at = self.slot.add(STATE_AT);
            if known < wanted {
                at.add(known as usize).write_bytes(0, (wanted - known) as usize);
                self.state.state_len = wanted;
            }
            &mut *at.cast::<T>()
        }
    }

    /// Works on the slice's heap.
    ///
    /// # Errors
    /// The heap is full, or damaged.
    pub fn heap<R>(&mut self, work: impl FnOnce(&mut Heap<'_>) -> Result<R, HeapError>) -> Result<R, HeapError> {
        // SAFETY: inside the slot; the borrow of `self` is exclusive.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.slot.add(HEAP_AT), HEAP_SIZE) };
        let mut heap = if self.state.heap_len == 0 { Heap::format(bytes)? } else { Heap::attach(bytes)? };
        let done = work(&mut heap);
        self.state.heap_len = u32::try_from(heap.extent()).unwrap_or(HEAP_SIZE as u32);
        done
    }
}
