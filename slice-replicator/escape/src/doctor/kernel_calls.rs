//! Things that can only be learned by trying them, each on a thread of its own that ends at once: nothing it did to
//! itself outlives it.

#![allow(unsafe_code, reason = "two system calls without a safe wrapper, each argued below")]

use std::io;
use std::thread;

/// Makes a network namespace and drops it.
pub fn try_network_namespace() -> io::Result<()> {
    on_own_thread(unshare_network)
}

/// Lets a thread have real-time priority for a moment.
pub fn try_real_time() -> io::Result<()> {
    on_own_thread(|| {
        let parameters = libc::sched_param { sched_priority: 1 };
        // SAFETY: 0 is the calling thread, which ends right after; `parameters` is a valid sched_param for the call.
        let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

fn unshare_network() -> io::Result<()> {
    // SAFETY: the call touches no memory; it gives the calling thread alone another network namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn on_own_thread(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    thread::Builder::new().spawn(work)?.join().unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_this_thread_where_it_was() {
        let namespace = || std::fs::read_link("/proc/thread-self/ns/net").ok();
        let before = namespace();
        // Refused without privileges; then too nothing may change.
        let _ = (try_network_namespace(), try_real_time());
        assert_eq!(namespace(), before);
    }
}
