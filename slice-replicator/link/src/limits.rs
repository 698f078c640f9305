//! Bounds of links and listeners.

use escape_proto::FRAME_MAX;
use std::time::Duration;

/// Bounds of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// From the first packet to the checked hello; later the link is dropped. 2 s.
    pub handshake_max: Duration,
    /// Bytes staged and not yet taken by the socket. A message that would go over it is not staged and the sender is
    /// told ([`crate::LinkFault::Congested`]); never less than one frame. 8 MiB.
    pub outgoing_bytes_max: usize,
    /// Sent bytes that stay unacknowledged this long end the link (TCP_USER_TIMEOUT, RFC 5482), and so do unanswered
    /// keepalive probes. Heartbeats notice a dead node long before; this is for a cut between two nodes that both live:
    /// their owner must find another standby (a grey one is gone in under two seconds). 1 s.
    pub unacknowledged_max: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            handshake_max: Duration::from_secs(2),
            outgoing_bytes_max: 8 << 20,
            unacknowledged_max: Duration::from_secs(1),
        }
    }
}

impl LinkLimits {
    /// The outgoing bound, raised to one whole frame if it was set lower.
    pub(crate) fn outgoing_bound(&self) -> usize {
        self.outgoing_bytes_max.max(FRAME_MAX + crate::frame_queue::PREFIX)
    }
}

/// Bounds of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Handshakes under way at once. When full, the oldest is dropped: an honest one ends within milliseconds. 64.
    pub pending_max: usize,
    /// Handshakes under way at once from one address; more are closed at once. 32.
    pub pending_per_address_max: usize,
    /// Connections accepted per second; more wait in the kernel's backlog, which is bounded. 256.
    pub accepts_per_second: u32,
    /// How many of those may come at once. 128.
    pub accept_burst: u32,
    /// Bounds of the links.
    pub link: LinkLimits,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            pending_max: 64,
            pending_per_address_max: 32,
            accepts_per_second: 256,
            accept_burst: 128,
            link: LinkLimits::default(),
        }
    }
}
