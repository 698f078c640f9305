//! The heap: everything in RAM between the image and the stack guard.
//!
//! One vCPU and interrupt stubs that never allocate need no lock, only a mark that the allocator is at work: an exception
//! inside it must not be survived.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, Ordering};
use talc::TalcCell;
use talc::source::Manual;

/// The allocator of an image.
pub struct Heap {
    talc: TalcCell<Manual>,
    working: AtomicBool,
}

// SAFETY: a guest has one vCPU, ring-0 stubs do not allocate, and an exception handler allocates only if `working` is
// false: there is never a second user.
unsafe impl Sync for Heap {}

#[cfg_attr(feature = "image", global_allocator)]
static HEAP: Heap = Heap { talc: TalcCell::new(Manual), working: AtomicBool::new(false) };

/// Gives RAM to the heap; called once at boot.
///
/// # Safety
/// The range is mapped, writable and used by nothing else, for ever.
pub(crate) unsafe fn give(start: u64, bytes: u64) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.talc.claim(start as *mut u8, bytes as usize) };
}

/// An allocation was under way when the panic or exception came that is being handled.
pub fn interrupted() -> bool {
    HEAP.working.load(Ordering::Relaxed)
}

impl Heap {
    fn marked<T>(&self, work: impl FnOnce(&TalcCell<Manual>) -> T) -> T {
        self.working.store(true, Ordering::Relaxed);
        let result = work(&self.talc);
        self.working.store(false, Ordering::Relaxed);
        result
    }
}

// SAFETY: every call goes to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the trait's contract.
        self.marked(|talc| unsafe { talc.alloc(layout) })
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the trait's contract.
        self.marked(|talc| unsafe { GlobalAlloc::dealloc(talc, at, layout) });
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller keeps the trait's contract.
        self.marked(|talc| unsafe { talc.realloc(at, layout, bytes) })
    }
}
