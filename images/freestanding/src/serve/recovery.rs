//! Start of the image, and what happens after a panic or exception: the slice that was referenced is given up, the others
//! live on.

use super::guest::Guest;
use crate::runtime::{crash, fault, log};
use core::cell::UnsafeCell;
use escape_abi::BootParams;

/// The one guest, in a place where the recovery finds it.
struct TheGuest(UnsafeCell<Option<Guest>>);
// SAFETY: one vCPU. The main loop and the recovery never run at the same time: the recovery runs after the main loop's
// frames are abandoned, and the main loop starts anew when the recovery is over.
unsafe impl Sync for TheGuest {}

static GUEST: TheGuest = TheGuest(UnsafeCell::new(None));

impl TheGuest {
    /// The guest, if it has started.
    ///
    /// # Safety
    /// No other reference is used after this call.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self) -> Option<&mut Guest> {
        // SAFETY: the caller's promise.
        unsafe { (*self.0.get()).as_mut() }
    }
}

/// Main function of the session server image.
pub fn run(params: &'static BootParams) -> ! {
    let guest = match Guest::start(params) {
        Ok(guest) => guest,
        Err(code) => crash::end(code),
    };
    // SAFETY: nothing else runs yet.
    unsafe { *GUEST.0.get() = Some(guest) };
    // SAFETY: the only reference.
    if let Some(guest) = unsafe { GUEST.get() } {
        guest.announce();
        log!("session server: {} slots, node {}", params.n_slots, params.node);
        guest.serve();
    }
    crash::end(crash::PANIC)
}

/// Recovery of the session server image: returns if the fault was not under a slice's reference.
pub fn recover(cause: u32) {
    // SAFETY: the frames that held a reference are abandoned; see `TheGuest`.
    let Some(guest) = (unsafe { GUEST.get() }) else { return };
    if guest.poison_referenced(cause) {
        // SAFETY: the interrupted turn owned nothing outside the guest: what it allocated is lost, and the one received
        // frame in its hand goes back with the next one. `poison` has repaired the server.
        unsafe { fault::resume(serve_on) }
    }
}

extern "C" fn serve_on(_: u64) -> ! {
    // SAFETY: the recovery is over and its reference is not used any more.
    match unsafe { GUEST.get() } {
        Some(guest) => guest.serve(),
        None => crash::end(crash::PANIC),
    }
}
