//! The node's clock.

use escape_engine::Micros;

/// CLOCK_MONOTONIC in microseconds: one clock for all processes of a host, so that timelines can be laid side by side.
pub fn now_us() -> Micros {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid, writable timespec for the duration of the call.
    let ok = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    debug_assert_eq!(ok, 0, "CLOCK_MONOTONIC exists on every Linux");
    t.tv_sec.unsigned_abs() * 1_000_000 + t.tv_nsec.unsigned_abs() / 1000
}
