//! Interrupt stubs. They only count: in an interpreted ring 0 each instruction costs 0.7 µs.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};
use escape_abi::layout::{LAPIC_ALIAS, vector};

/// Interrupts taken so far, stray ones included.
pub(super) static ALL: AtomicU64 = AtomicU64::new(0);
/// Timer interrupts taken so far.
static TIMER: AtomicU64 = AtomicU64::new(0);
/// Nudges since the main loop's present turn began.
static NUDGES: AtomicU64 = AtomicU64::new(0);
/// Nudges in one turn after which it is broken off. The host sends one for each 10 ms of processor time.
const NUDGES_PER_TURN_MAX: u64 = 5;
/// Interrupts on vectors that nobody should raise.
static STRAY: AtomicU64 = AtomicU64::new(0);

/// The vector that the local APIC raises when an interrupt has vanished; it has no end-of-interrupt.
pub(super) const SPURIOUS_VECTOR: usize = 0xff;
/// End-of-interrupt register, through the alias that a 32-bit displacement reaches.
const EOI: u64 = LAPIC_ALIAS + 0xb0;

// An interrupt taken between `sti` and `hlt` of the halt call must not be followed by the `hlt`, or the wake-up is lost.
// The architecture's one-instruction shadow of `sti` promises that, but not every machine below keeps the promise: so the
// stub compares its return address with that of the `hlt`, a one-byte instruction, and steps over it. (This also covers
// the ordinary wake-up, where the return address lies behind the `hlt` already.)
global_asm!(
    r#"
    .text
    .macro ESCAPE_INTERRUPT name, counter
\name:
    .ifnb \counter
    inc qword ptr [\counter]
    .endif
    inc qword ptr [{all}]
    cmp qword ptr [rsp], offset escape_ring0_hlt
    jne 9f
    inc qword ptr [rsp]
9:  mov dword ptr [{eoi}], 0
    iretq
    .endm
    .globl escape_interrupt_counted
    ESCAPE_INTERRUPT escape_interrupt_counted
    .globl escape_interrupt_timer
    ESCAPE_INTERRUPT escape_interrupt_timer, {timer}
    .globl escape_interrupt_stray
    ESCAPE_INTERRUPT escape_interrupt_stray, {stray}
    .globl escape_interrupt_nudge
escape_interrupt_nudge:
    inc qword ptr [{nudges}]
    cmp qword ptr [{nudges}], {nudges_max}
    jb escape_interrupt_counted
    test byte ptr [rsp + 8], 3          # ring 0 is never the one that does not end
    jz escape_interrupt_counted
    mov qword ptr [{nudges}], 0
    mov dword ptr [{eoi}], 0
    push 0                              # from here on it is an exception of what was interrupted
    push {nudge_vector}
    jmp escape_exception
    .globl escape_interrupt_spurious
escape_interrupt_spurious:
    iretq
    .purgem ESCAPE_INTERRUPT
"#,
    all = sym ALL,
    timer = sym TIMER,
    stray = sym STRAY,
    nudges = sym NUDGES,
    nudges_max = const NUDGES_PER_TURN_MAX,
    nudge_vector = const vector::NUDGE,
    eoi = const EOI,
);

unsafe extern "C" {
    fn escape_interrupt_counted();
    fn escape_interrupt_timer();
    fn escape_interrupt_stray();
    fn escape_interrupt_nudge();
    fn escape_interrupt_spurious();
}

pub(super) fn counted() -> u64 {
    escape_interrupt_counted as *const () as u64
}
pub(super) fn timer() -> u64 {
    escape_interrupt_timer as *const () as u64
}
pub(super) fn stray() -> u64 {
    escape_interrupt_stray as *const () as u64
}
pub(super) fn nudge() -> u64 {
    escape_interrupt_nudge as *const () as u64
}
pub(super) fn spurious() -> u64 {
    escape_interrupt_spurious as *const () as u64
}

/// Interrupts taken so far. Read it before looking for work, and give it to
/// [`halt_unless_interrupted_since`](super::ring0::halt_unless_interrupted_since).
pub fn count() -> u64 {
    ALL.load(Ordering::SeqCst)
}

/// A turn of the main loop begins: earlier nudges were not for it.
pub fn forget_nudges() {
    NUDGES.store(0, Ordering::Relaxed);
}

/// Timer interrupts taken so far.
pub fn timer_count() -> u64 {
    TIMER.load(Ordering::SeqCst)
}

/// Interrupts so far on vectors that nobody should raise.
pub fn stray_count() -> u64 {
    STRAY.load(Ordering::Relaxed)
}
