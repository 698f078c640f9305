//! The end of a run: the last replies, a last check of every session, a clean close.

use std::time::Duration;

use super::connection::{Life, Stage, Talk};
use super::generator::{Generator, Phase};
use super::request::Request;
use super::turns;
use super::violation::Violation;

/// How long a reply is awaited after the last request: what is missing then is lost, µs.
pub const REPLY_LIMIT_US: u64 = 5_000_000;
/// Sessions that are checked at once, and time between two such lots, µs: a check of all together would be a load that no
/// service was promised.
const CHECKED_AT_ONCE: usize = 500;
const CHECK_EVERY_US: u64 = 250_000;
/// How long the ends of the connections are awaited, µs.
const CLOSE_LIMIT_US: u64 = 2_000_000;

/// How long it takes until the last of so many sessions is checked.
pub(super) fn checking_time(sessions: usize) -> Duration {
    Duration::from_micros(CHECK_EVERY_US.saturating_mul((sessions / CHECKED_AT_ONCE) as u64))
}

impl Generator {
    /// No more turns.
    pub(super) fn begin_end(&mut self) {
        if matches!(self.phase, Phase::Opening { .. } | Phase::Running) {
            self.phase = Phase::Draining { until_us: self.clock.now_us() + REPLY_LIMIT_US };
        }
    }

    /// Goes on to the next phase of the end when this one is complete or its time is over.
    pub(super) fn advance(&mut self) {
        let now_us = self.clock.now_us();
        match self.phase {
            Phase::Draining { until_us } if self.is_quiet() || now_us >= until_us => self.begin_check(now_us),
            Phase::Checking { next, due_us, .. } if next < self.connections.len() && now_us < due_us => {}
            Phase::Checking { next, .. } if next < self.connections.len() => self.check_some(next, now_us),
            Phase::Checking { until_us, .. } if self.is_checked() || now_us >= until_us => self.begin_close(now_us),
            Phase::Closing { until_us } if self.is_closed() || now_us >= until_us => self.phase = Phase::Done,
            _ => {}
        }
    }

    /// Every reply is there. Short sessions still connecting have requests in flight too.
    fn is_quiet(&self) -> bool {
        self.ledger.in_flight == 0
    }

    fn is_checked(&self) -> bool {
        let unfinished = |talk: &Talk| matches!(talk, Talk::Stream(_)) || talk.in_flight() > 0;
        !self.connections.iter().flatten().any(|connection| unfinished(&connection.talk))
    }

    fn is_closed(&self) -> bool {
        self.connections.iter().all(Option::is_none)
    }

    /// One request more for every session, and which node serves it; streams end and show their trailer.
    fn begin_check(&mut self, now_us: u64) {
        self.check_some(0, now_us);
    }

    /// The next sessions from `first` on.
    fn check_some(&mut self, first: usize, now_us: u64) {
        let next = (first + CHECKED_AT_ONCE).min(self.connections.len());
        self.phase = Phase::Checking { next, due_us: now_us + CHECK_EVERY_US, until_us: now_us + REPLY_LIMIT_US };
        (first..next).for_each(|index| self.check_session(index, now_us));
    }

    fn check_session(&mut self, index: usize, now_us: u64) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        if connection.stage == Stage::Connecting || connection.life == Life::Short {
            return;
        }
        if matches!(connection.talk, Talk::Stream(_)) {
            return self.end_stream(index);
        }
        for request in [Request::Counter, Request::Session] {
            if turns::issue(connection, Some(request), now_us, now_us) {
                self.ledger.requests += 1;
                self.ledger.in_flight += 1;
            }
        }
        self.flush(index);
    }

    fn end_stream(&mut self, index: usize) {
        self.flush(index);
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        if !connection.is_flushed() {
            // The peer has taken nothing since the last turn: a FIN now would cut the stream short.
            let how = "stream bytes were not taken until the end".into();
            return self.give_up(index, &Violation::Lost { count: 1, how });
        }
        match connection.end() {
            Ok(()) => {
                // What waited for its turn is read now; the edge-triggered event for it came long ago.
                if let Some(Some(connection)) = self.connections.get_mut(index) {
                    connection.readable = true;
                }
                self.read(index, usize::MAX, true);
            }
            Err(error) => self.lose(index, &error.to_string()),
        }
    }

    /// What has no reply now is lost; the others are closed.
    fn begin_close(&mut self, now_us: u64) {
        for index in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get_mut(index) else { continue };
            let unanswered = connection.talk.in_flight() as u64;
            let seconds = REPLY_LIMIT_US / 1_000_000;
            if unanswered > 0 {
                let how = format!("no reply within {seconds} s after the end");
                self.give_up(index, &Violation::Lost { count: unanswered, how });
            } else if matches!(connection.talk, Talk::Stream(_)) {
                let how = format!("no trailer within {seconds} s after the end of the stream");
                self.give_up(index, &Violation::Lost { count: 1, how });
            } else if connection.stage == Stage::Open && connection.end().is_err() {
                self.remove(index);
            }
        }
        self.phase = Phase::Closing { until_us: now_us + CLOSE_LIMIT_US };
    }
}
