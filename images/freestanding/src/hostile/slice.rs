//! A slice of this guest: its word, its published state, its bytes, its connection. It can keep the rules, and every step
//! of them can be left out or lied about.

use crate::packet::Packet;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use escape_abi::layout::{CONTROL_BASE, slot_address};
use escape_abi::message::Flow;
use escape_abi::meta::{ConnectionNumbers, connection_bit};
use escape_abi::{ControlLayout, GuestMessage, LiveRange, SlotMeta, SlotWord};
use escape_freestanding::BootParams;

/// Bytes of a slot that are state.
const STATE_BYTES: u32 = 4096;
/// The first byte that the slice sends.
const FIRST_SEQUENCE: u32 = 1000;
/// The next byte that it expects.
const NEXT_RECEIVED: u32 = 5000;

/// A slice.
pub struct Slice {
    /// Its slot.
    pub slot: u32,
    /// The slot's incarnation.
    pub incarnation: u64,
    /// Its connection.
    pub flow: Flow,
    /// Next sequence number.
    pub sequence: u32,
    service_ip: [u8; 4],
    layout: ControlLayout,
}

impl Slice {
    /// A slice in a slot of the lease, not bound yet.
    pub fn new(params: &BootParams, slot: u32, incarnation: u64, flow: Flow) -> Self {
        let layout = ControlLayout::new(params.n_slots);
        Self { slot, incarnation, flow, sequence: FIRST_SEQUENCE, service_ip: params.ip, layout }
    }

    /// The message that binds it.
    pub fn binding(&self) -> GuestMessage {
        GuestMessage::Bind { slot: self.slot, incarnation: self.incarnation, flow: self.flow, place: 0, serial: 0 }
    }

    /// The slot's word.
    pub fn word(&self) -> &'static AtomicU64 {
        let at = CONTROL_BASE + self.layout.words + 8 * u64::from(self.slot);
        // SAFETY: inside the control pages, aligned, mapped for ever, and only accessed as atomics.
        unsafe { AtomicU64::from_ptr(at as *mut u64) }
    }

    fn hold(&self) -> &'static AtomicU32 {
        let at = CONTROL_BASE + self.layout.holds + 4 * u64::from(self.slot);
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(at as *mut u32) }
    }

    /// Publishes this about the slot.
    pub fn publish(&self, meta: SlotMeta) {
        let at = CONTROL_BASE + self.layout.metas + size_of::<SlotMeta>() as u64 * u64::from(self.slot);
        // SAFETY: inside the control pages, aligned; the host copies it by volatile access.
        unsafe { (at as *mut SlotMeta).write_volatile(meta) }
    }

    /// What the slice publishes when it is honest.
    pub fn meta(&self) -> SlotMeta {
        let mut meta =
            SlotMeta { incarnation: self.incarnation, connections: connection_bit::present(0), ..SlotMeta::default() };
        meta.numbers[0] = ConnectionNumbers { snd_nxt: self.sequence, rcv_nxt: NEXT_RECEIVED };
        meta.live[0] = LiveRange { offset: 0, len: STATE_BYTES };
        meta
    }

    /// Takes a reference as the rules say: not while the slot is held.
    pub fn get_ref(&self) {
        loop {
            self.word().fetch_add(1, Ordering::SeqCst);
            if self.hold().load(Ordering::SeqCst) == 0 {
                return;
            }
            self.word().fetch_sub(1, Ordering::SeqCst);
            while self.hold().load(Ordering::SeqCst) != 0 {
                core::hint::spin_loop();
            }
        }
    }

    /// Gives the reference back: the generation moves on.
    pub fn put_ref(&self) {
        let word = SlotWord(self.word().load(Ordering::SeqCst));
        self.word().store(word.released().0, Ordering::SeqCst);
    }

    /// Writes the slice's state.
    pub fn write_state(&self, text: &[u8]) {
        let base = slot_address(self.slot) as *mut u8;
        for (at, byte) in text.iter().take(STATE_BYTES as usize).enumerate() {
            // SAFETY: inside the slot, whose lease is mapped.
            unsafe { base.add(at).write_volatile(*byte) }
        }
    }

    /// One whole step by the rules: reference, change, publication, release. The frame that reveals it is returned.
    pub fn say(&mut self, text: &[u8]) -> Vec<u8> {
        self.get_ref();
        self.write_state(text);
        let frame = self.next_segment(text);
        self.publish(self.meta());
        self.put_ref();
        frame
    }

    /// The next segment with this payload; nothing else changes.
    pub fn next_segment(&mut self, payload: &[u8]) -> Vec<u8> {
        let frame = self.packet().frame(payload);
        self.sequence = self.sequence.wrapping_add(payload.len() as u32);
        frame
    }

    /// The headers of the next segment.
    pub fn packet(&self) -> Packet {
        Packet { acknowledges: NEXT_RECEIVED, sequence: self.sequence, ..Packet::new(self.service_ip, self.flow) }
    }
}
