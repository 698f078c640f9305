//! [`PeerMessage`](escape_proto::PeerMessage) without copies of bodies.

use escape_proto::{Ack, CheckpointHead, CodecError, Epoch, GroupId, Refusal, SliceId};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The same wire form as [`escape_proto::PeerMessage`], with a checkpoint's body borrowed: [`crate::Link::send`] it,
/// or [`PeerFrame::decode`] a received frame, without a copy of the body on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerFrame<'a> {
    /// A checkpoint and its body.
    Checkpoint(CheckpointHead, #[serde(borrow, with = "borrowed")] &'a [u8]),
    /// Applied.
    Ack(Ack),
    /// Not applied.
    Refusal(Refusal),
    /// "Do you still stand by?"
    Probe {
        /// The group.
        group: GroupId,
        /// The owner's epoch.
        epoch: Epoch,
        /// Returned in the answer.
        nonce: u64,
    },
    /// Answer to a probe.
    ProbeReply {
        /// The group.
        group: GroupId,
        /// The standby's epoch of it.
        epoch: Epoch,
        /// The probe's.
        nonce: u64,
        /// The standby's record names the asker as owner and itself as standby.
        standing_by: bool,
    },
    /// The sender has given up a slice of its group: its image is to be dropped.
    Quarantine {
        /// The group.
        group: GroupId,
        /// The owner's epoch.
        epoch: Epoch,
        /// The slice.
        slice: SliceId,
    },
}

impl<'a> PeerFrame<'a> {
    /// Reads a frame that holds exactly one message.
    ///
    /// # Errors
    /// [`CodecError`] for anything else.
    pub fn decode(frame: &'a [u8]) -> Result<Self, CodecError> {
        const KIND: &str = "PeerMessage";
        let (message, rest) =
            postcard::take_from_bytes(frame).map_err(|source| CodecError::Malformed { kind: KIND, source })?;
        if rest.is_empty() { Ok(message) } else { Err(CodecError::Trailing { kind: KIND, extra: rest.len() }) }
    }
}

mod borrowed {
    use super::{Deserializer, Serializer, Visitor, fmt};

    pub(super) fn serialize<S: Serializer>(body: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(body)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<&'de [u8], D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = &'de [u8];
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("borrowed bytes")
            }
            fn visit_borrowed_bytes<E>(self, body: &'de [u8]) -> Result<&'de [u8], E> {
                Ok(body)
            }
        }
        d.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use escape_proto::{Body, BodyKind, ChainHash, CheckpointNo, Flow, PeerMessage, RefusalCause, decode, encode};

    #[test]
    fn both_forms_have_the_same_bytes() {
        let (group, epoch, nonce) = (GroupId(7), Epoch(300), 1 << 40);
        let slice = SliceId { slot: 9, inc: 4 };
        let (no, chain) = (CheckpointNo(12), ChainHash([6; 32]));
        let flow = Flow { ip: [10, 0, 0, 1], port: 40_000, service_port: 80 };
        let head = CheckpointHead {
            kind: BodyKind::Full,
            base: CheckpointNo(0),
            generation: 99,
            rcv_covered: u32::MAX,
            group,
            epoch,
            slice,
            no,
            flow,
            chain,
        };
        let ack = Ack { group, epoch, slice, no, chain };
        let refusal = Refusal { group, epoch, slice, no, cause: RefusalCause::Corrupt { detail: "x".into() } };
        let body = [5; 300];
        let pairs = [
            (PeerFrame::Checkpoint(head, &body), PeerMessage::Checkpoint(head, Body(body.to_vec()))),
            (PeerFrame::Ack(ack), PeerMessage::Ack(ack)),
            (PeerFrame::Refusal(refusal.clone()), PeerMessage::Refusal(refusal)),
            (PeerFrame::Probe { group, epoch, nonce }, PeerMessage::Probe { group, epoch, nonce }),
            (
                PeerFrame::ProbeReply { group, epoch, nonce, standing_by: true },
                PeerMessage::ProbeReply { group, epoch, nonce, standing_by: true },
            ),
            (PeerFrame::Quarantine { group, epoch, slice }, PeerMessage::Quarantine { group, epoch, slice }),
        ];
        for (frame, message) in pairs {
            let wire = encode(&message).unwrap();
            assert_eq!(encode(&frame).unwrap(), wire);
            assert_eq!(PeerFrame::decode(&wire).unwrap(), frame);
            assert_eq!(decode::<PeerMessage>(&wire).unwrap(), message);
            let mut long = wire.clone();
            long.push(0);
            assert!(matches!(PeerFrame::decode(&long), Err(CodecError::Trailing { extra: 1, .. })));
            for n in 0..wire.len() {
                assert!(PeerFrame::decode(&wire[..n]).is_err());
            }
        }
    }
}
