//! Task state and interrupt descriptor table.

use super::interrupts;
use super::ring0;
use super::trap;
use core::cell::UnsafeCell;
use escape_abi::layout::vector;

/// A table that the processor reads by its physical address.
#[repr(C, align(4096))]
pub(super) struct Table<T>(UnsafeCell<T>);
// SAFETY: there is one vCPU, and the tables are written once, before what they describe can happen.
unsafe impl<T> Sync for Table<T> {}

/// Task state segment with an I/O bitmap that allows every port: where KVM drops IOPL to 0, the bitmap is what lets ring 3
/// reach ports.
#[repr(C)]
pub(super) struct TaskState {
    stacks: [u32; 25],
    io_map: [u16; 2],
    bitmap: [u8; 8192],
    end: u8,
}

/// Offset of the last byte of [`TaskState`].
pub(super) const TSS_LIMIT: u64 = 104 + 8192;

pub(super) static TSS: Table<TaskState> =
    Table(UnsafeCell::new(TaskState { stacks: [0; 25], io_map: [0, 104], bitmap: [0; 8192], end: 0xff }));
pub(super) static IDT: Table<[[u64; 2]; 256]> = Table(UnsafeCell::new([[0; 2]; 256]));

/// Ring-0 code segment.
const RING0_CODE: u64 = 0x10;
/// Interrupt stacks of the task state: interrupts, exceptions, and exceptions that may strike at any place.
const IST_INTERRUPT: u64 = 1;
const IST_EXCEPTION: u64 = 2;
const IST_ANYWHERE: u64 = 3;
/// The call gate runs on the ring-0 stack of the task state.
const IST_NONE: u64 = 0;

/// A 64-bit interrupt gate.
const fn gate(handler: u64, stack: u64, ring: u64) -> [u64; 2] {
    let attributes = 0x8e00 | ring << 13;
    [
        handler & 0xffff | RING0_CODE << 16 | stack << 32 | attributes << 32 | (handler >> 16 & 0xffff) << 48,
        handler >> 32,
    ]
}

/// Fills the interrupt table; ring 3 can do it, the table is plain memory. Every gate but the call's has a stack of its
/// own, so that the red zone of the interrupted code survives.
pub(super) fn fill_idt() {
    let mut table = [gate(interrupts::stray(), IST_INTERRUPT, 0); 256];
    for (vector, handler) in trap::handlers().into_iter().enumerate() {
        let stack = if matches!(vector, 2 | 8 | 18) { IST_ANYWHERE } else { IST_EXCEPTION };
        table[vector] = gate(handler, stack, 0);
    }
    table[ring0::CALL_VECTOR] = gate(ring0::call_entry(), IST_NONE, 3);
    for vector in vector::DEVICE0..=vector::CONTROL {
        table[usize::from(vector)] = gate(interrupts::counted(), IST_INTERRUPT, 0);
    }
    table[usize::from(vector::TIMER)] = gate(interrupts::timer(), IST_INTERRUPT, 0);
    table[usize::from(vector::NUDGE)] = gate(interrupts::nudge(), IST_INTERRUPT, 0);
    table[interrupts::SPURIOUS_VECTOR] = gate(interrupts::spurious(), IST_INTERRUPT, 0);
    // SAFETY: one vCPU, at boot; no interrupt source is enabled yet, and nothing else refers to the table.
    unsafe { IDT.0.get().write_volatile(table) };
}
