//! The end of a guest: a code that the VMM reports. Never 0, which means an ordinary end.

/// A panic outside every reference.
pub const PANIC: u32 = 256;
/// The boot parameters are of another version, or nonsense.
pub const BAD_PARAMETERS: u32 = 0x200;
/// RAM too small, or its layout is not what the image expects.
pub const BAD_MEMORY: u32 = 0x201;
/// The control pages are not initialised, or for another arena.
pub const BAD_CONTROL: u32 = 0x202;
/// A virtio device is missing, or refused a step of its initialisation.
pub const DEVICE: u32 = 0x203;
/// No entropy within a second.
pub const NO_ENTROPY: u32 = 0x204;
/// More than [64 poisonings in a minute](crate::serve::PoisonBudget).
pub const POISON_BUDGET: u32 = 0x205;
/// A panic or exception while one was handled.
pub const NESTED_FAULT: u32 = 0x206;
/// A panic or exception inside the heap's allocator: its lists cannot be trusted any more.
pub const HEAP_INTERRUPTED: u32 = 0x207;

/// An exception outside every reference: this plus its vector.
pub const EXCEPTION: u32 = 0x300;

/// The code for a fault that was not survived. `cause` is an exception vector or [`PANIC`].
pub const fn code_of(cause: u32) -> u32 {
    if cause == PANIC { PANIC } else { EXCEPTION | cause }
}

/// Ends the guest: the VMM stops it at the write. Should the VMM run it on, it halts for ever.
#[cfg(not(test))]
pub fn end(code: u32) -> ! {
    use crate::machine::{interrupts, port, ring0};
    loop {
        port::write32(port::CRASH, code);
        ring0::halt_unless_interrupted_since(interrupts::count());
    }
}
