//! Calls into ring 0: `int3`, operation in RAX (9 µs on a KVM that interprets ring 0, 0.3 µs elsewhere).
//!
//! `syscall` and `int n` do not reach ring 0 where KVM runs ring 3 natively; the breakpoint exception does everywhere.

use super::interrupts;
use core::arch::{asm, global_asm};

/// Vector of the call gate.
pub(super) const CALL_VECTOR: usize = 3;
const HALT: u64 = 0;
const FORGET_TRANSLATION: u64 = 1;

global_asm!(
    r#"
    .text
    .globl escape_ring0_call
    .globl escape_ring0_hlt
escape_ring0_call:                      # interrupts are off: the gate is an interrupt gate
    test eax, eax
    jnz 1f
    cmp rdi, [{all}]                    # 0: halt, unless an interrupt has come since the caller counted
    jne 2f
    sti
escape_ring0_hlt:
    hlt
2:  iretq
1:  invlpg [rdi]                        # 1: forget the translation of rdi
    iretq
"#,
    all = sym interrupts::ALL,
);

unsafe extern "C" {
    fn escape_ring0_call();
}

pub(super) fn call_entry() -> u64 {
    escape_ring0_call as *const () as u64
}

/// Halts the vCPU until the next interrupt, unless one has come since `seen` was [counted](interrupts::count).
///
/// The race-free idle: count, look for work, halt with the count. May return early; never sleeps over an interrupt.
pub fn halt_unless_interrupted_since(seen: u64) {
    // SAFETY: the gate preserves every register and all memory; halting has no effect on the program's state.
    unsafe { asm!("int3", in("rax") HALT, in("rdi") seen) }
}

/// Forgets the cached translation of a linear address, after its page-table entry was changed.
pub fn forget_translation(address: u64) {
    // SAFETY: as above; `invlpg` accepts any address.
    unsafe { asm!("int3", in("rax") FORGET_TRANSLATION, in("rdi") address) }
}
