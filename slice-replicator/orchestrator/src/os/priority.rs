//! Scheduling priority of the calling thread.

/// Above all ordinary threads, below heartbeats of nodes on the same machine.
const PRIORITY: libc::c_int = 8;

/// Asks for real-time priority of the calling thread; its future threads are ordinary ones. Goes on without where that
/// is not allowed: then a loaded machine may delay judgements, never make wrong ones.
pub(crate) fn real_time(what: &str) {
    let param = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: pid 0 is the calling thread and `param` is a valid sched_param for the duration of the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &param) };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        tracing::info!(%error, "{what}: no real-time priority (CAP_SYS_NICE would allow it)");
    }
}
