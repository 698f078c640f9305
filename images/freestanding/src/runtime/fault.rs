//! Panics and exceptions: say what happened, then let the image recover on a fresh stack, or end the guest.

use super::{crash, heap, log};
use crate::machine::stack;
use crate::machine::trap::TrapRecord;
use core::sync::atomic::{AtomicBool, Ordering};

unsafe extern "Rust" {
    /// The image's recovery, defined by [`crate::image!`].
    safe fn escape_image_recover(cause: u32);
}

/// A panic or exception is being handled.
static HANDLING: AtomicBool = AtomicBool::new(false);

/// Entry for exceptions, in ring 3 on the fault stack. One of the vector `NUDGE` breaks off a turn that did not end.
pub(crate) fn on_exception(record: &TrapRecord) -> ! {
    if HANDLING.swap(true, Ordering::Relaxed) {
        crash::end(crash::NESTED_FAULT);
    }
    log!(
        "fault: exception {} error {:#x} at {:#x}, address {:#x}, stack {:#x}, cs {:#x}",
        record.vector,
        record.error,
        record.rip,
        record.address,
        record.rsp,
        record.cs
    );
    let vector = record.vector as u32;
    if record.in_ring0() || record.is_abort() {
        crash::end(crash::code_of(vector));
    }
    handle(vector)
}

/// Entry for panics, on the stack that panicked.
#[cfg(feature = "image")]
#[panic_handler]
fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    if HANDLING.swap(true, Ordering::Relaxed) {
        crash::end(crash::NESTED_FAULT);
    }
    log!("fault: {info}");
    extern "C" fn on_fault_stack(cause: u64) -> ! {
        handle(cause as u32)
    }
    // SAFETY: a panic does not return, so the frames of the panicking stack are over; `HANDLING` was clear, so the fault
    // stack is not in use (the guest boots on it, and a panic there runs over frames that are not needed any more).
    unsafe { stack::enter_fault(on_fault_stack, u64::from(crash::PANIC)) }
}

/// On the fault stack.
fn handle(cause: u32) -> ! {
    if heap::interrupted() {
        log!("fault: inside the allocator");
        crash::end(crash::HEAP_INTERRUPTED);
    }
    escape_image_recover(cause);
    crash::end(crash::code_of(cause))
}

/// Ends the handling of a fault: starts `function` on the main stack, from its beginning. For the image's recovery, which
/// runs on the fault stack.
///
/// # Safety
/// Nothing is needed any more of the frames that the fault interrupted: no value that they own, no lock that they hold.
pub unsafe fn resume(function: extern "C" fn(u64) -> !) -> ! {
    HANDLING.store(false, Ordering::Relaxed);
    // SAFETY: the caller's promise, and the fault stack is left for good.
    unsafe { stack::enter_main(function, 0) }
}
