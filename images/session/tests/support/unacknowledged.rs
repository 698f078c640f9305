//! What a client has sent and nobody has acknowledged, with the timer that RFC 6298 (5.3) wants: only an acknowledgement of something
//! new starts it again. smoltcp 0.14 starts it again with every segment that comes, so under an endless stream from the server it
//! never sends a lost segment again; a real client does, and what was out at the timeout follows as acknowledgements come (RFC 5681, 3.1).

use super::segment::{ACK, FIN, Seen, before};
use std::collections::VecDeque;

/// After so long without progress the oldest segment is sent again, us.
const TIMEOUT: i64 = 1_000_000;

/// Segments sent again per acknowledgement after a timeout: slow start, without its growth.
const PER_ACK: usize = 2;

/// Segments that occupy sequence space, oldest first. Bounded by the client's send buffer.
#[derive(Default)]
pub struct Unacknowledged {
    segments: VecDeque<(Seen, Vec<u8>)>,
    /// When something was acknowledged last, or the oldest segment sent.
    since: i64,
    progress: bool,
    /// End of what was out at the last timeout, until all of it is acknowledged.
    recover: Option<u32>,
}

impl Unacknowledged {
    /// A segment of the server came in.
    pub fn on_segment(&mut self, segment: &Seen) {
        while segment.flags & ACK != 0 && self.segments.front().is_some_and(|(s, _)| !before(segment.ack, s.end())) {
            self.segments.pop_front();
            self.progress = true;
        }
    }

    /// Frames that are sent now. Returns those that must be sent again beside them.
    pub fn on_sent(&mut self, frames: &[Vec<u8>], now: i64) -> Vec<Vec<u8>> {
        let Some(present) = frames.last() else { return Vec::new() };
        let progress = std::mem::take(&mut self.progress);
        if progress {
            self.since = now;
        }
        frames.iter().for_each(|frame| self.note(frame, now));
        self.recover.take_if(|end| self.segments.front().is_none_or(|(s, _)| !before(s.seq, *end)));
        let n = match self.recover {
            Some(_) if progress => PER_ACK,
            _ if now - self.since > TIMEOUT => 1,
            _ => return Vec::new(),
        };
        self.since = now;
        self.recover = self.recover.or(self.segments.back().map(|(s, _)| s.end()));
        self.segments.iter().take(n).map(|(_, frame)| with_present(frame, present)).collect()
    }

    fn note(&mut self, frame: &[u8], now: i64) {
        let seen = Seen::parse(frame);
        // The handshake has timers of its own, which nothing disturbs.
        if seen.payload.is_empty() && seen.flags & FIN == 0 {
            return;
        }
        if self.segments.front().is_none_or(|(s, _)| !before(s.seq, seen.seq)) {
            self.since = now;
        }
        if self.segments.back().is_none_or(|(s, _)| before(s.end(), seen.end())) {
            self.segments.push_back((seen, frame.to_vec()));
        }
    }
}

/// The frame with the acknowledgement and window of another one.
fn with_present(frame: &[u8], present: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[42..46].copy_from_slice(&present[42..46]);
    frame[48..50].copy_from_slice(&present[48..50]);
    frame
}
