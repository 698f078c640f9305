//! One session on the stream port as a state machine over bytes. Both sides send `pattern(offset)`. When the client
//! ends its direction, the server ends with a 16-byte trailer: bytes it received and how many of them were wrong, both
//! u64 little-endian.

use super::pattern;
use super::violation::Violation;

/// Bytes of the server's trailer.
pub const TRAILER: usize = 16;

/// One checked byte stream.
#[derive(Debug, Default)]
pub struct StreamSession {
    sent: u64,
    /// Pattern bytes received and checked.
    checked: u64,
    /// The client has ended its direction: the last [`TRAILER`] bytes before the end are not pattern.
    ending: bool,
    /// Bytes that are pattern or trailer, not yet known which; at most [`TRAILER`].
    undecided: Vec<u8>,
}

impl StreamSession {
    /// Appends the next `count` pattern bytes to `out`.
    pub fn send(&mut self, count: usize, out: &mut Vec<u8>) {
        let from = out.len();
        out.resize(from + count, 0);
        pattern::fill(self.sent, out.get_mut(from..).unwrap_or_default());
        self.sent += count as u64;
    }

    /// The client ends its direction now.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// Checks received bytes.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if !self.ending {
            return self.check(bytes);
        }
        let decided = (self.undecided.len() + bytes.len()).saturating_sub(TRAILER);
        let mut pattern_bytes = std::mem::take(&mut self.undecided);
        pattern_bytes.extend_from_slice(bytes);
        self.undecided = pattern_bytes.split_off(decided);
        self.check(&pattern_bytes)
    }

    /// The server has ended its direction: checks the trailer.
    pub fn finish(&self) -> Result<(), Violation> {
        if !self.ending {
            return Err(Violation::Reset { how: "the server ended the stream".into(), unanswered: 0 });
        }
        let (Some(received), Some(wrong)) = (self.trailer_word(0), self.trailer_word(8)) else {
            let how = format!("stream trailer of {} bytes, expected {TRAILER}", self.undecided.len());
            return Err(Violation::WrongBytes { count: 1, how });
        };
        if wrong > 0 {
            let how = "the server received wrong bytes on the stream".into();
            return Err(Violation::WrongBytes { count: wrong, how });
        }
        if received < self.sent {
            let how = format!("the server received {received} of {} stream bytes", self.sent);
            return Err(Violation::Lost { count: self.sent - received, how });
        }
        if received > self.sent {
            let how = format!("the server received {received} stream bytes of {} sent", self.sent);
            return Err(Violation::Duplicated { count: received - self.sent, how });
        }
        Ok(())
    }

    fn trailer_word(&self, at: usize) -> Option<u64> {
        if self.undecided.len() != TRAILER {
            return None;
        }
        let word = self.undecided.get(at..at + 8)?;
        Some(u64::from_le_bytes(word.try_into().ok()?))
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let wrong = pattern::count_wrong(self.checked, bytes);
        if wrong > 0 {
            let how = format!("in stream bytes {}..{}", self.checked, self.checked + bytes.len() as u64);
            return Err(Violation::WrongBytes { count: wrong, how });
        }
        self.checked += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn trailer(received: u64, wrong: u64) -> Vec<u8> {
        [received.to_le_bytes(), wrong.to_le_bytes()].concat()
    }

    fn ended_after(server_pattern: usize, tail: &[u8], piece: usize) -> Result<(), Violation> {
        let mut session = StreamSession::default();
        session.send(1000, &mut Vec::new());
        let mut bytes = vec![0; server_pattern];
        pattern::fill(0, &mut bytes);
        bytes.extend_from_slice(tail);
        session.end();
        for chunk in bytes.chunks(piece) {
            session.receive(chunk)?;
        }
        session.finish()
    }

    #[test]
    fn the_trailer_is_found_however_the_end_is_cut() {
        for piece in 1..70 {
            ended_after(50, &trailer(1000, 0), piece).unwrap();
            ended_after(0, &trailer(1000, 0), piece).unwrap();
        }
    }

    #[test]
    fn a_trailer_that_disagrees_is_named() {
        assert!(matches!(ended_after(9, &trailer(990, 0), 8), Err(Violation::Lost { count: 10, .. })));
        assert!(matches!(ended_after(9, &trailer(1001, 0), 8), Err(Violation::Duplicated { count: 1, .. })));
        assert!(matches!(ended_after(9, &trailer(1000, 2), 8), Err(Violation::WrongBytes { count: 2, .. })));
        assert!(matches!(ended_after(0, b"short", 8), Err(Violation::WrongBytes { .. })));
    }

    #[test]
    fn a_wrong_byte_and_an_early_end_are_found() {
        let mut session = StreamSession::default();
        assert!(session.receive(&[pattern::pattern(0), pattern::pattern(1) ^ 1]).is_err());
        assert!(matches!(StreamSession::default().finish(), Err(Violation::Reset { .. })));
    }
}
