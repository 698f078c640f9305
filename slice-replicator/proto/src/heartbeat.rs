//! Heartbeats: small datagrams, authenticated with the cluster's key.

use crate::ids::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};

/// A sign of life. Sent to the orchestrator and to every other node of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Beat {
    /// Sender.
    pub node: NodeId,
    /// Its life.
    pub inc: Incarnation,
    /// Strictly growing within a life: an old or replayed beat is ignored.
    pub seq: u64,
    /// Turns of the data thread: no growth for the progress timeout = hung, although beats arrive.
    pub data_turns: u64,
    /// Bit n: the sender suspects node n (in the life that its records name).
    pub suspects: u32,
}

/// Why a datagram is not a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeatError {
    /// Too short or not decodable.
    #[error("not a heartbeat")]
    Malformed,
    /// The authenticator is wrong: another cluster's key, or damage.
    #[error("heartbeat with a wrong authenticator")]
    Forged,
}

impl Beat {
    /// Longest datagram.
    pub const BYTES_MAX: usize = 96;
    const TAG: usize = 16;

    /// The datagram.
    pub fn seal(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut out = postcard::to_allocvec(self).unwrap_or_default();
        let tag = blake3::keyed_hash(key, &out);
        out.extend_from_slice(&tag.as_bytes()[..Self::TAG]);
        out
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`BeatError`] for anything that was not sealed with `key`.
    pub fn open(datagram: &[u8], key: &[u8; 32]) -> Result<Self, BeatError> {
        let at = datagram.len().checked_sub(Self::TAG).ok_or(BeatError::Malformed)?;
        let (body, tag) = datagram.split_at_checked(at).ok_or(BeatError::Malformed)?;
        let want = blake3::keyed_hash(key, body);
        // Constant-time compare of the truncated tag.
        let wrong = want.as_bytes().iter().zip(tag).fold(0u8, |acc, (a, b)| acc | (a ^ b));
        if wrong != 0 {
            return Err(BeatError::Forged);
        }
        postcard::from_bytes(body).map_err(|_| BeatError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_beat_survives_and_every_changed_byte_is_refused() {
        let key = [7; 32];
        let beat = Beat { node: NodeId(3), inc: Incarnation(9), seq: 1 << 40, data_turns: 12_345, suspects: 0b101 };
        let wire = beat.seal(&key);
        assert!(wire.len() <= Beat::BYTES_MAX);
        assert_eq!(Beat::open(&wire, &key), Ok(beat));
        for i in 0..wire.len() {
            let mut bad = wire.clone();
            bad[i] ^= 1;
            assert_eq!(Beat::open(&bad, &key), Err(BeatError::Forged), "byte {i}");
        }
        assert_eq!(Beat::open(&wire, &[8; 32]), Err(BeatError::Forged));
        assert_eq!(Beat::open(&[], &key), Err(BeatError::Malformed));
    }
}
