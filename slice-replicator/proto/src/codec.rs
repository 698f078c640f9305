//! Encoding: postcard, one message per frame. The frame's length prefix belongs to the link.

use serde::{Serialize, de::DeserializeOwned};

/// Longest message, bytes: a full slot of 256 KiB with room to spare, or 4,096 records.
pub const FRAME_MAX: usize = 1 << 20;

/// Why bytes are not a message, or a message does not fit.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Longer than [`FRAME_MAX`].
    #[error("message of {len} bytes is over the limit of {FRAME_MAX}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not this kind of message.
    #[error("not a {kind}: {source}")]
    Malformed {
        /// What was wanted.
        kind: &'static str,
        /// What postcard says.
        source: postcard::Error,
    },
    /// Bytes are left over after the message.
    #[error("{extra} bytes after the end of a {kind}")]
    Trailing {
        /// What was wanted.
        kind: &'static str,
        /// How many.
        extra: usize,
    },
}

/// Appends the encoding of `message` to `out`.
///
/// # Errors
/// [`CodecError::TooLong`]; `out` is then as before.
pub fn encode_into<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    let taken = std::mem::take(out);
    *out = postcard::to_extend(message, taken)
        .map_err(|source| CodecError::Malformed { kind: std::any::type_name::<T>(), source })?;
    let len = out.len() - start;
    if len > FRAME_MAX {
        out.truncate(start);
        return Err(CodecError::TooLong { len });
    }
    Ok(())
}

/// The encoding of `message`.
///
/// # Errors
/// [`CodecError::TooLong`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    encode_into(message, &mut out)?;
    Ok(out)
}

/// Reads one message that fills `bytes` exactly.
///
/// # Errors
/// [`CodecError`] for anything else; nothing panics and no more is allocated than a small multiple of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let kind = std::any::type_name::<T>();
    if bytes.len() > FRAME_MAX {
        return Err(CodecError::TooLong { len: bytes.len() });
    }
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(|source| CodecError::Malformed { kind, source })?;
    if !rest.is_empty() {
        return Err(CodecError::Trailing { kind, extra: rest.len() });
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::*;

    fn checkpoint() -> PeerMessage {
        let head = CheckpointHead {
            group: GroupId(7),
            epoch: Epoch(3),
            slice: SliceId { slot: 9, inc: 1 << 32 | 4 },
            no: CheckpointNo(12),
            base: CheckpointNo(11),
            kind: BodyKind::Delta,
            generation: 99,
            rcv_covered: u32::MAX,
            flow: Flow { ip: [10, 0, 0, 1], port: 40_000, service_port: 80 },
            chain: ChainHash::START.next(b"x"),
        };
        PeerMessage::Checkpoint(head, Body(vec![5; 300]))
    }

    #[test]
    fn a_checkpoint_survives_and_costs_little_more_than_its_body() {
        let wire = encode(&checkpoint()).unwrap();
        assert!(wire.len() < 300 + 90, "{} bytes", wire.len());
        assert_eq!(decode::<PeerMessage>(&wire).unwrap(), checkpoint());
    }

    #[test]
    fn truncation_and_trailing_bytes_are_errors() {
        let wire = encode(&checkpoint()).unwrap();
        for n in 0..wire.len() {
            assert!(decode::<PeerMessage>(&wire[..n]).is_err(), "{n}");
        }
        let mut longer = wire;
        longer.push(0);
        assert!(matches!(decode::<PeerMessage>(&longer), Err(CodecError::Trailing { extra: 1, .. })));
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        // A Records message that claims 2^60 nodes in ten bytes.
        let mut wire = vec![1, 1];
        wire.extend_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]);
        assert!(decode::<FromOrchestrator>(&wire).is_err());
    }
}
