//! When to send again. smoltcp's least retransmission timeout is 1 s (RFC 6298, 2.4); sessions that are to survive a failover
//! within milliseconds cannot wait that long for a lost frame. So a timer of our own makes smoltcp's clock jump to its timer.

use crate::clock::{MS, SECOND};
use crate::seq;

/// Least wait when more than one segment is out.
const LEAST: i64 = 30 * MS;
/// Least wait when one segment may be all that is out: Linux delays the acknowledgement of a single one by 40 ms.
const LEAST_SINGLE: i64 = 50 * MS;
/// Wait before the round trip was ever measured.
const UNKNOWN: i64 = 200 * MS;
/// Longest wait.
const MOST: i64 = SECOND;
/// Bytes that fit one segment.
const SEGMENT: u32 = 1448;

/// The timer, as slice state. All times in the slice's clock, microseconds.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Retransmit {
    /// When to send again; 0 = nothing is out.
    pub due_at: i64,
    /// Smoothed round trip and its variance (RFC 6298, 2.3); 0 = unknown.
    srtt: i64,
    rttvar: i64,
    /// A sample under way: when it was sent (0 = none), and which acknowledgement ends it.
    sample_at: i64,
    sample_end: u32,
    /// Oldest byte that is not acknowledged; says nothing before the SYN.
    una: u32,
    /// How often it was sent again without progress.
    backoff: u32,
    /// 1: something new was acknowledged since the last [`Self::arm`].
    progress: u32,
}

impl Retransmit {
    /// Our SYN is sent, the first time or again: nothing behind it has been.
    pub(crate) fn begin(&mut self, iss: u32) {
        self.una = iss;
    }

    /// Something is sent for the first time; `end` is the sequence number behind it.
    pub(crate) fn on_new_data(&mut self, end: u32, clock: i64) {
        if self.sample_at == 0 {
            (self.sample_at, self.sample_end) = (clock, end);
        }
    }

    /// An acknowledgement not beyond what was sent.
    pub(crate) fn on_ack(&mut self, ack: u32, clock: i64) {
        if !seq::before(self.una, ack) {
            return;
        }
        self.una = ack;
        self.progress = 1;
        if self.sample_at != 0 && !seq::before(ack, self.sample_end) {
            self.sample(clock - self.sample_at);
            self.sample_at = 0;
        }
    }

    fn sample(&mut self, rtt: i64) {
        let rtt = rtt.max(1);
        if self.srtt == 0 {
            (self.srtt, self.rttvar) = (rtt, rtt / 2);
        } else {
            self.rttvar += ((self.srtt - rtt).abs() - self.rttvar) / 4;
            self.srtt += (rtt - self.srtt) / 8;
        }
    }

    /// The oldest byte that is not acknowledged.
    pub(crate) const fn una(&self) -> u32 {
        self.una
    }

    /// After every event: is anything out (`outstanding`; up to `snd_nxt`), and was it just sent again?
    pub(crate) fn arm(&mut self, outstanding: bool, resent: bool, snd_nxt: u32, clock: i64) {
        let progress = core::mem::take(&mut self.progress) != 0;
        if !outstanding {
            (self.due_at, self.backoff) = (0, 0);
            return;
        }
        if resent {
            self.backoff = (self.backoff + 1).min(10);
            self.sample_at = 0; // Karn: whose acknowledgement would it be?
        } else if progress {
            self.backoff = 0;
        } else if self.due_at != 0 {
            return;
        }
        let single = snd_nxt.wrapping_sub(self.una) <= SEGMENT;
        self.due_at = clock + self.wait(single);
    }

    fn wait(&self, single: bool) -> i64 {
        let base = match self.srtt {
            0 => UNKNOWN,
            srtt => (srtt + 4 * self.rttvar).max(if single { LEAST_SINGLE } else { LEAST }),
        };
        (base << self.backoff).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backs_off_to_a_second_and_comes_back_with_progress() {
        let mut r = Retransmit::default();
        r.begin(99);
        r.on_new_data(100, 1000);
        r.arm(true, false, 100, 1000);
        assert_eq!(r.due_at, 1000 + UNKNOWN);
        r.on_ack(100, 1500);
        r.arm(false, false, 100, 1500);
        assert_eq!((r.due_at, r.srtt), (0, 500));
        r.on_new_data(5000, 2000);
        r.arm(true, false, 5000, 2000);
        assert_eq!(r.due_at, 2000 + LEAST);
        r.arm(true, false, 5000, 9000); // other events do not put it off
        assert_eq!(r.due_at, 2000 + LEAST);
        let mut waits = alloc::vec::Vec::new();
        for _ in 0..8 {
            let at = r.due_at;
            r.arm(true, true, 5000, at);
            waits.push((r.due_at - at) / MS);
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1000, 1000, 1000]);
        r.on_ack(4900, 50_000_000);
        r.arm(true, false, 5000, 50_000_000);
        assert_eq!(r.due_at, 50_000_000 + LEAST_SINGLE);
        assert_eq!(r.srtt, 500, "no sample from what was sent twice");
    }
}
