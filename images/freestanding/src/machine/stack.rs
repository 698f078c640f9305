//! Stacks, and how to leave one for another.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of each stack of ring 0, whose code pushes a frame and little more.
pub(super) const RING0_STACK_BYTES: usize = 4096;
/// Bytes of the stack on which panics and exceptions are handled in ring 3; the guest also boots on it.
pub(super) const FAULT_STACK_BYTES: usize = 256 << 10;

/// Memory of a stack.
#[repr(C, align(4096))]
pub(super) struct Stack<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);
// SAFETY: only the stack pointer refers to the bytes.
unsafe impl<const BYTES: usize> Sync for Stack<BYTES> {}

impl<const BYTES: usize> Stack<BYTES> {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; BYTES]))
    }
}

/// Calls from ring 3 (RSP0 of the task state).
pub(super) static RING0_STACK: Stack<RING0_STACK_BYTES> = Stack::new();
/// Interrupts (IST 1).
pub(super) static INTERRUPT_STACK: Stack<RING0_STACK_BYTES> = Stack::new();
/// Exceptions (IST 2).
pub(super) static EXCEPTION_STACK: Stack<RING0_STACK_BYTES> = Stack::new();
/// Double fault, NMI, machine check (IST 3).
pub(super) static DOUBLE_FAULT_STACK: Stack<RING0_STACK_BYTES> = Stack::new();
/// Boot, and handling of panics and exceptions in ring 3.
pub(super) static FAULT_STACK: Stack<FAULT_STACK_BYTES> = Stack::new();

/// End of the main stack.
static MAIN_TOP: AtomicU64 = AtomicU64::new(0);

/// Says where the main stack ends; called once at boot.
pub(super) fn set_main_top(top: u64) {
    MAIN_TOP.store(top, Ordering::Relaxed);
}

/// Leaves the current stack for the start of the one that ends at `top`, a multiple of 16.
///
/// # Safety
/// `top` is the end of a mapped stack of which no frame is needed any more, neither of the current stack.
unsafe fn enter(top: u64, function: extern "C" fn(u64) -> !, argument: u64) -> ! {
    // SAFETY: by the contract above; the function does not return, and its frame starts aligned as the ABI wants.
    unsafe {
        asm!(
            "cld",
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {function}",
            "ud2",
            // Never reached by itself: a drill that wants a guest that hangs puts the vCPU here.
            "2: jmp 2b",
            top = in(reg) top,
            function = in(reg) function,
            in("rdi") argument,
            options(noreturn)
        )
    }
}

/// Starts `function` on the main stack, from its beginning.
///
/// # Safety
/// Every frame on the main stack, and on the current one, is abandoned: nothing may be needed from them any more.
pub unsafe fn enter_main(function: extern "C" fn(u64) -> !, argument: u64) -> ! {
    // SAFETY: the main stack is mapped since boot; the rest is the caller's promise.
    unsafe { enter(MAIN_TOP.load(Ordering::Relaxed), function, argument) }
}

/// Starts `function` on the fault stack, from its beginning.
///
/// # Safety
/// As for [`enter_main`], and no fault is being handled.
pub unsafe fn enter_fault(function: extern "C" fn(u64) -> !, argument: u64) -> ! {
    let top = (&raw const FAULT_STACK) as u64 + FAULT_STACK_BYTES as u64;
    // SAFETY: the fault stack is a static; the rest is the caller's promise.
    unsafe { enter(top, function, argument) }
}
