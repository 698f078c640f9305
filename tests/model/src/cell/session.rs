//! What a slice is in this model: a counter and a hash over who served what.

use escape_proto::{ChainHash, Flow, SliceId};

/// State of a session. The same request served in another life gives another digest, so that work done twice shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Requests served.
    pub count: u8,
    /// Hash over all of them and the lives in which they were served.
    pub digest: u64,
    /// The client has closed.
    pub closed: bool,
}

impl Session {
    /// Opened in this life of a guest.
    pub const fn open(life: u64) -> Self {
        Self { count: 0, digest: mix(0, life), closed: false }
    }

    /// After its next request, served in this life.
    pub const fn serve(self, life: u64, close: bool) -> Self {
        Self { count: self.count + 1, digest: mix(self.digest, life), closed: close }
    }

    /// Generation of the slot word in this state.
    pub const fn generation(self) -> u64 {
        self.count as u64 + 1
    }

    /// The chain hash after a body with this state.
    pub fn chain(self, before: ChainHash) -> ChainHash {
        let [a, b, c, d, e, f, g, h, ..] = before.0;
        let word = mix(u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from(self.closed), self.digest);
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&word.to_le_bytes());
        ChainHash(hash)
    }
}

/// The connection of a slice: one each.
pub const fn flow_of(slice: SliceId) -> Flow {
    Flow { ip: [192, 0, 2, 1], port: (slice.slot << 6) as u16 | (slice.inc as u16 & 0x3f), service_port: 80 }
}

const fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.rotate_left(21).wrapping_add(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd6e8_feb8_6659_fd93);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}
