//! What a connection is, as values and as bytes.

use crate::error::DecodeError;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Most bytes of one queue: more than a slice has room for.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Of the encoding.
pub(crate) const VERSION: u8 = 1;
/// Bytes before the queues.
const HEAD_BYTES: usize = 1 + 12 + 8 + 2 + 1 + 2 + 4 + 20 + 12;
/// Largest window scale (RFC 7323, section 2.3).
const SCALE_MAX: u8 = 14;
const HAS_SACK: u8 = 1;
const HAS_SCALE: u8 = 2;
const HAS_TIMESTAMPS: u8 = 4;

/// What both sides agreed on in their SYNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Largest segment that may be sent, bytes.
    pub mss: u16,
    /// Selective acknowledgements (RFC 2018).
    pub sack: bool,
    /// Window scales (RFC 7323): of the peer's windows, and of ours.
    pub scale: Option<(u8, u8)>,
    /// Our clock for timestamps (RFC 7323), at the freeze.
    pub timestamp: Option<u32>,
}

/// Windows, in bytes (the kernel's `struct tcp_repair_window`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Window {
    /// Sequence number of the segment that told the peer's window last.
    pub told_by: u32,
    /// The peer's window.
    pub send: u32,
    /// The largest that it ever told.
    pub send_max: u32,
    /// Ours.
    pub receive: u32,
    /// What we had acknowledged when we told it last.
    pub told_at: u32,
}

/// A connection that is open both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpCapsule {
    /// Our end.
    pub local: SocketAddrV4,
    /// The client's.
    pub peer: SocketAddrV4,
    /// Sequence number behind the last byte that the program has written.
    pub written: u32,
    /// The next one expected of the peer.
    pub expected: u32,
    /// What was agreed on.
    pub options: TcpOptions,
    /// Windows.
    pub window: Window,
    /// Bytes that the program has not read.
    pub unread: Vec<u8>,
    /// Bytes that were sent and not acknowledged.
    pub unacknowledged: Vec<u8>,
    /// Bytes that the program has written and that were not sent.
    pub unsent: Vec<u8>,
}

impl TcpCapsule {
    /// The peer has told what it has: `acknowledged`, the acknowledgement number of a segment that it sent after everything that the
    /// former kernel had released. What it has is forgotten, and the rest counts as not sent, so that it goes out at once and not when
    /// a timer says so (TCP-FAILOVER, section 3: 0 ms instead of 4 s). `false`: it acknowledges what was never sent, or less than before;
    /// nothing is changed.
    pub fn peer_has(&mut self, acknowledged: u32) -> bool {
        let waiting = self.unacknowledged.len() + self.unsent.len();
        let first = self.written.wrapping_sub(u32::try_from(waiting).unwrap_or(u32::MAX));
        let has = usize::try_from(acknowledged.wrapping_sub(first)).unwrap_or(usize::MAX);
        if has > self.unacknowledged.len() {
            return false;
        }
        let missing = self.unacknowledged.split_off(has);
        self.unsent.splice(0..0, missing);
        self.unacknowledged.clear();
        true
    }

    /// All that the peer has not acknowledged goes out at once when this is restored.
    pub fn send_all_again(&mut self) {
        let sent = std::mem::take(&mut self.unacknowledged);
        self.unsent.splice(0..0, sent);
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (options, window) = (&self.options, &self.window);
        let queues = [&self.unread, &self.unacknowledged, &self.unsent];
        let mut bytes = vec![VERSION];
        for end in [self.local, self.peer] {
            bytes.extend(end.ip().octets());
            bytes.extend(end.port().to_le_bytes());
        }
        bytes.extend([self.written, self.expected].map(u32::to_le_bytes).as_flattened());
        bytes.extend(options.mss.to_le_bytes());
        let flags = [
            (options.sack, HAS_SACK),
            (options.scale.is_some(), HAS_SCALE),
            (options.timestamp.is_some(), HAS_TIMESTAMPS),
        ];
        bytes.push(flags.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum());
        let (of_peer, ours) = options.scale.unwrap_or_default();
        bytes.extend([of_peer, ours]);
        bytes.extend(options.timestamp.unwrap_or_default().to_le_bytes());
        let Window { told_by, send, send_max, receive, told_at } = *window;
        bytes.extend([told_by, send, send_max, receive, told_at].map(u32::to_le_bytes).as_flattened());
        // What is longer is never taken out of a socket.
        let lengths = queues.map(|queue| u32::try_from(queue.len()).unwrap_or(u32::MAX));
        bytes.extend(lengths.map(u32::to_le_bytes).as_flattened());
        queues.into_iter().for_each(|queue| bytes.extend(queue));
        bytes
    }

    /// From its bytes, which may be anybody's.
    ///
    /// # Errors
    /// They are none of a capsule.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (head, mut queues) = bytes.split_at_checked(HEAD_BYTES).ok_or(DecodeError::Length)?;
        let mut head = Reader(head);
        if head.array::<1>()? != [VERSION] {
            return Err(DecodeError::Version);
        }
        let (local, peer) = (head.end()?, head.end()?);
        let (written, expected, mss) = (head.u32()?, head.u32()?, u16::from_le_bytes(head.array()?));
        let ([flags], [of_peer, ours], clock) = (head.array()?, head.array()?, head.u32()?);
        let is = |flag| flags & flag != 0;
        if flags & !(HAS_SACK | HAS_SCALE | HAS_TIMESTAMPS) != 0 || mss == 0 {
            return Err(DecodeError::Value("an option"));
        }
        if of_peer.max(ours) > SCALE_MAX {
            return Err(DecodeError::Value("a window scale"));
        }
        let window = Window {
            told_by: head.u32()?,
            send: head.u32()?,
            send_max: head.u32()?,
            receive: head.u32()?,
            told_at: head.u32()?,
        };
        let lengths = [head.u32()?, head.u32()?, head.u32()?];
        let [unread, unacknowledged, unsent] = lengths.map(|len| {
            let len = usize::try_from(len).ok().filter(|len| *len <= QUEUE_BYTES_MAX)?;
            let (queue, rest) = queues.split_at_checked(len)?;
            queues = rest;
            Some(queue.to_vec())
        });
        let (Some(unread), Some(unacknowledged), Some(unsent), true) =
            (unread, unacknowledged, unsent, queues.is_empty())
        else {
            return Err(DecodeError::Length);
        };
        let options = TcpOptions {
            mss,
            sack: is(HAS_SACK),
            scale: is(HAS_SCALE).then_some((of_peer, ours)),
            timestamp: is(HAS_TIMESTAMPS).then_some(clock),
        };
        Ok(Self { local, peer, written, expected, options, window, unread, unacknowledged, unsent })
    }
}

/// Takes values off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (value, rest) = self.0.split_first_chunk().ok_or(DecodeError::Length)?;
        self.0 = rest;
        Ok(*value)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn end(&mut self) -> Result<SocketAddrV4, DecodeError> {
        let ip = Ipv4Addr::from(self.array::<4>()?);
        let port = u16::from_le_bytes(self.array()?);
        if port == 0 { Err(DecodeError::Value("a port")) } else { Ok(SocketAddrV4::new(ip, port)) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn capsule() -> TcpCapsule {
        TcpCapsule {
            local: "10.0.0.1:80".parse().unwrap(),
            peer: "10.0.0.2:65535".parse().unwrap(),
            written: 7,
            expected: u32::MAX,
            options: TcpOptions { mss: 1448, sack: true, scale: Some((7, 10)), timestamp: Some(99) },
            window: Window { told_by: 1, send: 2, send_max: 3, receive: 4, told_at: 5 },
            unread: b"unread".to_vec(),
            unacknowledged: vec![0xaa; 70_000],
            unsent: Vec::new(),
        }
    }

    #[test]
    fn bytes_and_values_are_the_same() {
        let capsule = capsule();
        assert_eq!(TcpCapsule::decode(&capsule.encode()), Ok(capsule.clone()));
        let plain =
            TcpCapsule { options: TcpOptions { mss: 536, sack: false, scale: None, timestamp: None }, ..capsule };
        assert_eq!(TcpCapsule::decode(&plain.encode()), Ok(plain));
    }

    #[test]
    fn what_the_peer_has_is_not_sent_again_and_the_rest_at_once() {
        let sent = |written: u32| TcpCapsule {
            written,
            unacknowledged: b"0123456789".to_vec(),
            unsent: b"ab".to_vec(),
            ..capsule()
        };
        for written in [1000u32, 5, 12, 0] {
            let una = written.wrapping_sub(12);
            for (has, rest) in [(0, "0123456789ab"), (4, "456789ab"), (10, "ab")] {
                let mut capsule = sent(written);
                assert!(capsule.peer_has(una.wrapping_add(has)), "{written} {has}");
                assert_eq!((capsule.unacknowledged.len(), capsule.unsent.as_slice()), (0, rest.as_bytes()));
                assert_eq!(capsule.written, written);
            }
            for nonsense in [u32::MAX, 11, 13, 1 << 31] {
                let mut capsule = sent(written);
                assert!(!capsule.peer_has(una.wrapping_add(nonsense)), "{written} {nonsense}");
                assert_eq!(capsule, sent(written));
            }
        }
    }

    #[test]
    fn bytes_of_strangers_are_refused() {
        let good = TcpCapsule { unacknowledged: Vec::new(), ..capsule() }.encode();
        for end in 0..good.len() {
            assert!(TcpCapsule::decode(good.get(..end).unwrap()).is_err(), "{end}");
        }
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            *bytes.get_mut(at).unwrap() = to;
            TcpCapsule::decode(&bytes)
        };
        assert_eq!(changed(0, 2), Err(DecodeError::Version));
        assert_eq!(changed(23, 8), Err(DecodeError::Value("an option")));
        assert_eq!(changed(24, 15), Err(DecodeError::Value("a window scale")));
        assert_eq!(changed(HEAD_BYTES - 9, 0xff), Err(DecodeError::Length), "a queue of 4 GiB");
        let longer = [good.as_slice(), &[0]].concat();
        assert_eq!(TcpCapsule::decode(&longer), Err(DecodeError::Length));
    }
}
