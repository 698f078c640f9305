//! Exceptions: ring 0 records the frame and leaves for ring 3, on the fault stack.

use super::stack::{self, FAULT_STACK};
use crate::runtime::fault;
use core::arch::global_asm;
use core::cell::UnsafeCell;

/// What ring 0 records of an exception.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TrapRecord {
    /// Exception vector.
    pub vector: u64,
    /// Error code, 0 for exceptions without one.
    pub error: u64,
    /// Where it happened.
    pub rip: u64,
    /// Code segment; its low two bits are the ring.
    pub cs: u64,
    /// RFLAGS.
    pub flags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
    /// CR2: the address, if it was a page fault.
    pub address: u64,
}

impl TrapRecord {
    /// It happened in ring 0: then nothing can be trusted any more.
    pub fn in_ring0(&self) -> bool {
        self.cs & 3 == 0
    }

    /// A double fault, NMI or machine check says nothing about the code that it interrupted.
    pub fn is_abort(&self) -> bool {
        matches!(self.vector, 2 | 8 | 18)
    }
}

#[repr(transparent)]
struct LastTrap(UnsafeCell<TrapRecord>);
// SAFETY: one vCPU; ring 0 writes it with interrupts off, ring 3 reads it before anything else can fault.
unsafe impl Sync for LastTrap {}

static LAST: LastTrap =
    LastTrap(UnsafeCell::new(TrapRecord { vector: 0, error: 0, rip: 0, cs: 0, flags: 0, rsp: 0, ss: 0, address: 0 }));

/// Vectors that the processor reserves for exceptions and that have a stub here.
const EXCEPTIONS: usize = 22;

global_asm!(
    r#"
    .text
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21
escape_exception_\n:
    .if (\n == 8) || (\n == 10) || (\n == 11) || (\n == 12) || (\n == 13) || (\n == 14) || (\n == 17) || (\n == 21)
    .else
    push 0                              # no error code of the processor
    .endif
    push \n
    jmp escape_exception
    .endr
    .globl escape_exception
escape_exception:
    pop qword ptr [{last}]
    pop qword ptr [{last} + 8]
    pop qword ptr [{last} + 16]
    pop qword ptr [{last} + 24]
    pop qword ptr [{last} + 32]
    pop qword ptr [{last} + 40]
    pop qword ptr [{last} + 48]
    mov rax, cr2
    mov [{last} + 56], rax
    push 0x2b
    push offset {fault_stack} + {fault_stack_bytes} - 8
    push 0x3202
    push 0x33
    push offset {trapped}
    iretq

    .section .rodata
    .balign 8
    .globl escape_exception_table
escape_exception_table:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21
    .quad escape_exception_\n
    .endr
    .text
"#,
    last = sym LAST,
    fault_stack = sym FAULT_STACK,
    fault_stack_bytes = const stack::FAULT_STACK_BYTES,
    trapped = sym trapped,
);

unsafe extern "C" {
    static escape_exception_table: [u64; EXCEPTIONS];
}

/// The stubs, by vector.
pub(super) fn handlers() -> [u64; EXCEPTIONS] {
    // SAFETY: a constant table of the assembly above.
    unsafe { escape_exception_table }
}

/// Ring 3, on the fault stack. An exception while another is handled starts here again, over the frames of the first:
/// `fault` notices and ends the guest.
extern "C" fn trapped() -> ! {
    // SAFETY: see `LastTrap`.
    let record = unsafe { LAST.0.get().read_volatile() };
    fault::on_exception(&record)
}
