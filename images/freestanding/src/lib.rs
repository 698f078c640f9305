//! The platform of the freestanding guests: everything between the first instruction and a service's own code.
//!
//! A freestanding guest has no operating system. It lives in ring 3 on one vCPU, linear = physical addresses, with a
//! ring-0 stub of a few instructions ([`machine`]); on an ordinary KVM that costs nothing, and on a KVM without VMX or SVM
//! (which runs ring 3 natively and interprets ring 0) it is what makes the guest run at full speed.
//!
//! | module | what |
//! |---|---|
//! | [`machine`] | start, descriptor tables, interrupts, exceptions, calls into ring 0, stacks, page protection, APIC timer |
//! | [`runtime`] | heap, memory functions, clock, log, panic and fault handling, crash codes |
//! | [`virtio`] | virtio-mmio transport, split virtqueues, network and entropy devices |
//! | `control` | guest's side of the control pages: both rings, signs of life |
//! | [`serve`] | the main loop of the session server image |
//!
//! An image is a small binary that names its main function and its recovery with [`image!`](crate::image).
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub use escape_control as control;

#[cfg(not(test))]
pub mod machine;
pub mod memory_map;
pub mod runtime;
pub mod serve;
pub mod virtio;

/// Names the two functions of an image.
///
/// `main: fn(&'static BootParams) -> !` runs in ring 3 on the main stack with heap and interrupts ready. `recover:
/// fn(u32)` runs on the fault stack after a panic or exception (cause: exception vector, or
/// [`runtime::crash::PANIC`]); if it returns, the guest crashes with that cause.
#[macro_export]
macro_rules! image {
    (main = $main:path, recover = $recover:path) => {
        #[unsafe(no_mangle)]
        fn escape_image_main(params: &'static $crate::BootParams) -> ! {
            $main(params)
        }
        #[unsafe(no_mangle)]
        fn escape_image_recover(cause: u32) {
            $recover(cause)
        }
    };
}

pub use escape_abi::BootParams;
