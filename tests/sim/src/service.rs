//! The service that the guests run: each session is a counter and a hash chain with entropy in it, so that work done
//! twice can be told from work done once.

use escape_proto::Flow;

/// State of a session: what a slice is in this model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Requests served.
    pub count: u64,
    /// Hash over all served requests and the entropy of each.
    pub digest: u64,
    /// Entropy of the last one; the reply carries it so that the client can check the chain.
    pub entropy: u64,
    /// The client has closed.
    pub closed: bool,
}

/// A packet from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Connection.
    pub flow: Flow,
    /// 0 opens; n is the n-th request.
    pub number: u64,
    /// The last request: close.
    pub close: bool,
    /// The guest that serves it dies.
    pub poison: bool,
}

/// A packet to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Connection.
    pub flow: Flow,
    /// Slice that answers.
    pub slice: escape_proto::SliceId,
    /// State after the request that it answers.
    pub state: Session,
}

impl Session {
    /// A session that was just opened.
    pub const fn open(entropy: u64) -> Self {
        Self { count: 0, digest: mix(0, 0, entropy), entropy, closed: false }
    }

    /// The session after its next request.
    pub const fn serve(self, entropy: u64, close: bool) -> Self {
        let count = self.count + 1;
        Self { count, digest: mix(self.digest, count, entropy), entropy, closed: close }
    }

    /// Is `self` what `before` becomes by its next request?
    pub const fn follows(self, before: Self) -> bool {
        self.count == before.count + 1 && self.digest == mix(before.digest, self.count, self.entropy)
    }

    /// As a checkpoint's body.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(25);
        for n in [self.count, self.digest, self.entropy] {
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        bytes.push(u8::from(self.closed));
        bytes
    }

    /// From a checkpoint's body.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |i: usize| bytes.get(i * 8..i * 8 + 8)?.try_into().ok().map(u64::from_le_bytes);
        Some(Self { count: word(0)?, digest: word(1)?, entropy: word(2)?, closed: *bytes.get(24)? != 0 })
    }
}

/// Bucket of a connection.
pub const fn bucket(flow: Flow) -> u16 {
    (((flow.port as u32).wrapping_mul(2_654_435_761)) >> 20) as u16
}

const fn mix(a: u64, b: u64, c: u64) -> u64 {
    let mut z = a.rotate_left(21) ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ c.wrapping_mul(0xd6e8_feb8_6659_fd93);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}
