//! What went over the commit links.

use escape_link::LinkCounters;
use serde::Serialize;

/// Messages and bytes (before encryption), out and in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Messages sent.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
}

impl Traffic {
    /// With those of one more link.
    pub const fn and(self, link: &LinkCounters) -> Self {
        Self {
            messages_out: self.messages_out + link.messages_out,
            bytes_out: self.bytes_out + link.bytes_out,
            messages_in: self.messages_in + link.messages_in,
            bytes_in: self.bytes_in + link.bytes_in,
        }
    }
}
