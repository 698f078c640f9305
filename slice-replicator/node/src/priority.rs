//! Scheduling priority of the heartbeat thread.

/// Asks for real-time priority of the calling thread; goes on without where that is not allowed.
pub fn real_time() {
    let param = libc::sched_param { sched_priority: 10 };
    // SAFETY: pid 0 is the calling thread and `param` is a valid sched_param for the duration of the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &param) };
    if result != 0 {
        tracing::info!(
            error = %std::io::Error::last_os_error(),
            "no real-time priority for heartbeats (CAP_SYS_NICE would allow it): false suspicions are likelier under load"
        );
    }
}
