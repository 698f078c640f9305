//! The signal that makes a vCPU thread leave the guest.
//!
//! The handler sets `immediate_exit` in the thread's `kvm_run`, so a signal that arrives just before `KVM_RUN` is not
//! lost (KVM API documentation, section 5, `kvm_run.immediate_exit`).

use super::error::VcpuError;
use libc::{c_int, c_void, siginfo_t};
use std::cell::Cell;
use std::io;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::PoisonError;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

thread_local! {
    /// `immediate_exit` of the vCPU that runs on this thread; null on all other threads.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(null_mut()) };
}

/// The signal's number.
pub fn number() -> c_int {
    SIGRTMIN() + 1
}

/// Installs the handler, once per process.
pub fn install() -> Result<(), VcpuError> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        register_signal_handler(number(), on_signal)
            .map_err(|e| VcpuError::Signal { signal: number(), source: io::Error::from_raw_os_error(e.errno()) })?;
        *installed = true;
    }
    Ok(())
}

/// Lets the signal through to the calling thread, whatever mask it inherited.
pub fn unblock() {
    if let Err(error) = unblock_signal(number()) {
        tracing::error!(%error, "cannot unblock the vCPU signal; stopping the guest will take long");
    }
}

extern "C" fn on_signal(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    let flag = IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: `Target` guarantees that the byte lives while the pointer is set, and this runs on that very thread.
        unsafe { flag.write_volatile(1) };
    }
}

/// While this lives, signals to this thread set `immediate_exit` of its vCPU.
pub struct Target {
    flag: *mut u8,
}

impl Target {
    /// # Safety
    /// `flag` must be valid for writes, by this thread, until the value is dropped (on this thread: it is not `Send`).
    pub unsafe fn new(flag: *mut u8) -> Self {
        IMMEDIATE_EXIT.set(flag);
        Self { flag }
    }

    /// Lets the vCPU enter the guest again.
    pub fn clear(&self) {
        // SAFETY: valid as promised to `new`.
        unsafe { self.flag.write_volatile(0) };
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(null_mut());
    }
}
