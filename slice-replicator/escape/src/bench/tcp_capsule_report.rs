//! The figures of `escape bench tcp-capsule`.

use super::percentiles::Percentiles;
use serde::Serialize;

/// Goal for the plug of one connection, microseconds of one processor.
pub const GOAL_RESTORE_US: f64 = 30.0;

/// The whole report.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TcpCapsuleReport {
    /// Connections.
    pub connections: usize,
    /// Threads that restored them.
    pub threads: usize,
    /// Bytes of each that its program had not read.
    pub unread_bytes: usize,
    /// The largest capsule.
    pub capsule_bytes: usize,
    /// Out of the socket, into bytes, and the socket closed in silence.
    pub dump_us: Percentiles,
    /// From bytes to a socket.
    pub restore_us: Percentiles,
    /// One segment at the network device: whose it is, held, compared with what is committed, let go.
    pub derive_us_per_segment: Percentiles,
    /// From the first to the last.
    pub restore_all_ms: f64,
}

impl TcpCapsuleReport {
    /// For people.
    pub fn table(&self) -> String {
        let Self {
            connections,
            threads,
            unread_bytes,
            capsule_bytes,
            dump_us,
            restore_us,
            derive_us_per_segment,
            restore_all_ms,
        } = self;
        let met = if restore_us.p50 <= GOAL_RESTORE_US { "met" } else { "missed" };
        format!(
            "{connections} connections with {unread_bytes} bytes unread, capsules of at most {capsule_bytes} bytes; all went on\n\
             taken out   p50 {:.1} us, p99 {:.1} us each\n\
             restored    p50 {:.1} us, p99 {:.1} us each (goal 30: {met}); all in {restore_all_ms} ms on {threads} threads\n\
             a segment   p50 {:.2} us, p99 {:.2} us in the valve of its machine\n",
            dump_us.p50,
            dump_us.p99,
            restore_us.p50,
            restore_us.p99,
            derive_us_per_segment.p50,
            derive_us_per_segment.p99
        )
    }
}
