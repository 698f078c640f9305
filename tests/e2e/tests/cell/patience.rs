//! Times of a cell whose nodes must not be taken for dead when the machine is only slow.

use escape::config::Timings;

/// Detection that waits ten times as long as it does by default.
pub fn patient() -> Timings {
    Timings {
        heartbeat_ms: 10,
        suspect_after_ms: 500,
        progress_timeout_ms: 3_000,
        guest_timeout_ms: 3_000,
        pause_limit_ms: 400,
        ..Timings::default()
    }
}
