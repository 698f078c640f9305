//! What a server sent on one connection: equal sequence numbers must always carry equal bytes, and nothing goes back.

use super::frame::{ACK, FIN, SYN, Segment};
use thiserror::Error;

/// How far from its start a flow's data can be; beyond that it lies before the start, or is nonsense.
const DISTANCE_MAX: u32 = 1 << 30;

/// Two segments that one server cannot have sent, or in this order.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Contradiction {
    /// A byte differs from what the same sequence number carried before.
    #[error("sequence number {seq}: byte {now:#04x}, before {before:#04x}")]
    OtherByte {
        /// The sequence number.
        seq: u32,
        /// The byte then.
        before: u8,
        /// The byte now.
        now: u8,
    },
    /// The end of the stream is elsewhere than before, or there are bytes behind it.
    #[error("sequence number {seq}: the stream ended before at {end}")]
    OtherEnd {
        /// End of what came now.
        seq: u32,
        /// Where the FIN was.
        end: u32,
    },
    /// A second SYN begins elsewhere.
    #[error("sequence number {seq}: the SYN had {first}")]
    OtherStart {
        /// Of the SYN now.
        seq: u32,
        /// Of the SYN then.
        first: u32,
    },
    /// It acknowledges less than it did before: whoever sent it does not know what was said since.
    #[error("acknowledges {now}, before {before}")]
    AckGoesBack {
        /// Then.
        before: u32,
        /// Now.
        now: u32,
    },
    /// Its time stamp is older than one seen before.
    #[error("time stamp {now}, before {before}")]
    TimeGoesBack {
        /// Then.
        before: u32,
        /// Now.
        now: u32,
    },
    /// Data where no data can be.
    #[error("sequence number {seq} is far from all others")]
    Astray {
        /// Its sequence number.
        seq: u32,
    },
}

/// The server's half of one connection.
#[derive(Debug, Default)]
pub(super) struct ServerFlow {
    /// Sequence number of the SYN.
    first: Option<u32>,
    /// Bytes behind the SYN, and whether each has been seen.
    bytes: Vec<(u8, bool)>,
    /// Where the FIN is.
    end: Option<u32>,
    ack: Option<u32>,
    /// The client has acknowledged everything before this.
    acknowledged: Option<u32>,
    tsval: Option<u32>,
    /// Bytes that were seen more than once.
    pub(super) repeated: u64,
}

impl ServerFlow {
    /// The client acknowledges.
    pub(super) fn acknowledge(&mut self, ack: u32) {
        if self.acknowledged.is_none_or(|before| is_before(before, ack)) {
            self.acknowledged = Some(ack);
        }
    }

    /// The next segment of the server, as it arrived.
    pub(super) fn take(&mut self, segment: &Segment<'_>) -> Result<(), Contradiction> {
        if segment.flags & ACK != 0 {
            let (before, now) = (self.ack.replace(segment.ack), segment.ack);
            if let Some(before) = before.filter(|before| is_before(now, *before)) {
                return Err(Contradiction::AckGoesBack { before, now });
            }
        }
        if let Some(now) = segment.tsval
            && let Some(before) = self.tsval.replace(now).filter(|before| is_before(now, *before))
        {
            return Err(Contradiction::TimeGoesBack { before, now });
        }
        if segment.flags & SYN != 0 {
            let first = *self.first.get_or_insert(segment.seq);
            let seq = segment.seq;
            return if seq == first { Ok(()) } else { Err(Contradiction::OtherStart { seq, first }) };
        }
        self.take_bytes(segment)
    }

    fn take_bytes(&mut self, segment: &Segment<'_>) -> Result<(), Contradiction> {
        // A capture that began in the middle begins with the first segment that it has.
        let start = self.first.get_or_insert(segment.seq.wrapping_sub(1)).wrapping_add(1);
        let offset = segment.seq.wrapping_sub(start);
        // The byte of a probe means nothing and has a number that was acknowledged (RFC 9293, 3.8.4): no receiver takes it.
        let taken_before = self.acknowledged.is_some_and(|ack| is_before(segment.seq, ack));
        if (segment.payload.is_empty() && segment.flags & FIN == 0) || (segment.payload.len() == 1 && taken_before) {
            return Ok(());
        }
        if offset > DISTANCE_MAX {
            return Err(Contradiction::Astray { seq: segment.seq });
        }
        let end = segment.seq.wrapping_add(segment.payload.len() as u32);
        if let Some(known) = self.end.filter(|known| is_before(*known, end)) {
            return Err(Contradiction::OtherEnd { seq: end, end: known });
        }
        if segment.flags & FIN != 0 && *self.end.get_or_insert(end) != end {
            return Err(Contradiction::OtherEnd { seq: end, end: self.end.unwrap_or(end) });
        }
        self.compare(offset as usize, start, segment.payload)
    }

    fn compare(&mut self, offset: usize, start: u32, payload: &[u8]) -> Result<(), Contradiction> {
        if self.bytes.len() < offset + payload.len() {
            self.bytes.resize(offset + payload.len(), (0, false));
        }
        let places = self.bytes.iter_mut().skip(offset);
        for (at, (place, now)) in (offset as u32..).zip(places.zip(payload)) {
            match *place {
                (before, true) if before != *now => {
                    return Err(Contradiction::OtherByte { seq: start.wrapping_add(at), before, now: *now });
                }
                (_, true) => self.repeated += 1,
                (_, false) => *place = (*now, true),
            }
        }
        Ok(())
    }

    /// Bytes that were seen.
    pub(super) fn seen(&self) -> u64 {
        self.bytes.iter().filter(|(_, seen)| *seen).count() as u64
    }
}

/// In the order of 32-bit sequence numbers.
const fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn segment(seq: u32, ack: u32, tsval: u32, flags: u8, payload: &[u8]) -> Segment<'_> {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        Segment { from: address, to: address, seq, ack, flags: flags | ACK, tsval: Some(tsval), payload }
    }

    /// What becomes of a last segment behind a SYN and ten bytes.
    fn behind(last: &Segment<'_>) -> Result<(), Contradiction> {
        let mut flow = ServerFlow::default();
        let first = u32::MAX - 5;
        assert_eq!(flow.take(&segment(first, 100, 1000, SYN, b"")), Ok(()));
        assert_eq!(flow.take(&segment(first.wrapping_add(1), 120, 1003, 0, b"0123456789")), Ok(()));
        flow.take(last)
    }

    #[test]
    fn the_same_again_and_what_follows_are_fine() {
        let at = |n: u32| (u32::MAX - 4).wrapping_add(n);
        for (seq, flags, payload) in [
            (at(0), 0, &b"0123456789"[..]),
            (at(3), 0, b"345"),
            (at(8), 0, b"89ab"),
            (at(12), 0, b"later"),
            (at(10), FIN, b""),
            (at(10), 0, b""),
        ] {
            assert_eq!(behind(&segment(seq, 120, 1003, flags, payload)), Ok(()), "{seq} {payload:?}");
        }
    }

    #[test]
    fn a_probe_is_one_byte_that_was_acknowledged() {
        let mut flow = ServerFlow::default();
        for segment in [segment(9, 1, 1, SYN, b""), segment(10, 1, 1, 0, b"abc")] {
            assert_eq!(flow.take(&segment), Ok(()));
        }
        flow.acknowledge(12);
        flow.acknowledge(11);
        let (probe, next, two) = (segment(11, 1, 1, 0, b"?"), segment(12, 1, 1, 0, b"?"), segment(11, 1, 1, 0, b"?c"));
        assert_eq!(flow.take(&probe), Ok(()));
        assert!(matches!(flow.take(&next), Err(Contradiction::OtherByte { seq: 12, .. })));
        assert!(matches!(flow.take(&two), Err(Contradiction::OtherByte { seq: 11, .. })));
    }

    #[test]
    fn a_changed_byte_is_found_wherever_it_is() {
        let first = u32::MAX - 4;
        for at in 0..10u8 {
            let mut bytes = *b"0123456789";
            bytes[usize::from(at)] ^= 1;
            let (before, now, seq) = (b'0' + at, (b'0' + at) ^ 1, first.wrapping_add(u32::from(at)));
            let found = behind(&segment(first, 120, 1003, 0, &bytes));
            assert_eq!(found, Err(Contradiction::OtherByte { seq, before, now }));
        }
    }

    #[test]
    fn what_goes_back_is_found() {
        let next = 5;
        assert_eq!(
            behind(&segment(next, 119, 1004, 0, b"a")),
            Err(Contradiction::AckGoesBack { before: 120, now: 119 })
        );
        assert_eq!(
            behind(&segment(next, 120, 1002, 0, b"a")),
            Err(Contradiction::TimeGoesBack { before: 1003, now: 1002 })
        );
        assert!(matches!(behind(&segment(7, 120, 1003, SYN, b"")), Err(Contradiction::OtherStart { .. })));
        assert!(matches!(behind(&segment(1 << 31, 120, 1003, 0, b"a")), Err(Contradiction::Astray { .. })));
    }

    #[test]
    fn bytes_behind_the_end_are_found() {
        let mut flow = ServerFlow::default();
        for (seq, flags) in [(9, SYN), (10, 0), (11, FIN)] {
            assert_eq!(flow.take(&segment(seq, 1, 1, flags, if flags == 0 { b"a" } else { b"" })), Ok(()));
        }
        let (seq, end) = (12, 11);
        assert_eq!(flow.take(&segment(11, 1, 1, 0, b"b")), Err(Contradiction::OtherEnd { seq, end }));
        assert_eq!((flow.seen(), flow.repeated), (1, 0));
    }
}
