//! The generator's turns: opening sessions at a pace, sending what the schedule wants, short sessions.

use mio::Token;

use super::connection::{Connection, Life, Stage, Talk};
use super::generator::{Generator, Phase};
use super::http_session::HttpSession;
use super::live::Live;
use super::request::Request;
use super::schedule::Schedule;
use super::stream_session::StreamSession;
use super::violation::Violation;

/// Handshakes under way at once while sessions are opened: half of what a guest keeps in SYN-RECEIVED.
const CONNECTING_MAX: usize = 128;
/// How often a few sessions are opened, µs.
const OPENING_TICK_US: u64 = 5_000;
/// From the last session's opening to the first turn, µs.
const START_DELAY_US: u64 = 20_000;
/// Short sessions open at once. When it is reached, one that is due is not opened and counted as held back.
pub(super) const CHURN_MAX: usize = 1_024;
/// Requests of a short session.
const CHURN_REQUESTS: u64 = 3;
/// Bytes that a stream session sends per turn.
const STREAM_SEND: usize = 64;
/// Bytes that a stream session reads per turn at most.
const STREAM_READ: usize = 4_096;

impl Generator {
    /// Everything that is due now.
    pub(super) fn take_turns(&mut self) {
        match self.phase {
            Phase::Opening { next, due_us } => self.open_some(next, due_us),
            Phase::Running => {
                let now_us = self.clock.now_us();
                // The bound of the loop is what was due when it began: a generator that is late catches up without
                // starving its sockets.
                while let Some(turn) = self.schedule.take(now_us) {
                    self.session_turn(turn.session, turn.due_us);
                    self.pull_trigger();
                }
                self.churn(now_us);
            }
            _ => {}
        }
    }

    fn open_some(&mut self, next: usize, due_us: u64) {
        let now_us = self.clock.now_us();
        if now_us < due_us {
            return;
        }
        let per_tick = (u64::from(self.plan.connects_per_second) * OPENING_TICK_US / 1_000_000).max(1) as usize;
        let room = CONNECTING_MAX.saturating_sub(self.connecting).min(per_tick);
        let last = (next + room).min(self.plan.sessions);
        for index in next..last {
            let talk = if self.plan.is_stream(index) {
                Talk::Stream(StreamSession::default())
            } else {
                Talk::Http(Box::new(HttpSession::new(self.plan.seed, index as u64)))
            };
            self.open(index, talk, Life::Whole);
        }
        self.phase = Phase::Opening { next: last, due_us: now_us + OPENING_TICK_US };
        if last == self.plan.sessions && self.connecting == 0 {
            self.start(now_us + START_DELAY_US);
        }
    }

    fn start(&mut self, start_us: u64) {
        self.phase = Phase::Running;
        self.schedule = Schedule::new(start_us, self.plan.sessions, self.plan.period_us(), self.plan.burst);
        self.churn_due_us = self.plan.churn_period_us().map(|period| start_us + period);
    }

    fn open(&mut self, index: usize, talk: Talk, life: Life) -> bool {
        let address = if matches!(talk, Talk::Stream(_)) { self.plan.stream } else { self.plan.http };
        let from = self.plan.client_address(index);
        match Connection::open(from, address, talk, life, self.poll.registry(), Token(index)) {
            Ok(connection) => {
                self.connecting += 1;
                if let Some(place) = self.connections.get_mut(index) {
                    *place = Some(connection);
                }
                true
            }
            Err(error) => {
                let violation = Violation::Reset { how: format!("connect to {address}: {error}"), unanswered: 0 };
                self.ledger.violated(index, None, &violation, 0);
                self.gone += u64::from(life == Life::Whole);
                false
            }
        }
    }

    fn session_turn(&mut self, index: usize, due_us: u64) {
        let now_us = self.clock.now_us();
        let wants_facts = self.wants_facts.get(index).copied().unwrap_or(false);
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        if matches!(connection.talk, Talk::Stream(_)) {
            return self.stream_turn(index);
        }
        if issue(connection, wants_facts.then_some(Request::Session), due_us, now_us) {
            self.ledger.requests += 1;
            self.ledger.in_flight += 1;
            if let Some(wants) = self.wants_facts.get_mut(index) {
                *wants = false;
            }
        } else {
            self.ledger.held_back += 1;
        }
        self.flush(index);
    }

    fn stream_turn(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        // Nothing is put behind bytes that the kernel did not take: the stream's backlog is one turn's bytes.
        if connection.is_flushed() {
            let mut bytes = std::mem::take(connection.outgoing());
            if let Talk::Stream(session) = &mut connection.talk {
                session.send(STREAM_SEND, &mut bytes);
            }
            *connection.outgoing() = bytes;
        } else {
            self.ledger.held_back += 1;
        }
        self.flush(index);
        self.read(index, STREAM_READ, false);
    }

    /// Hands waiting bytes of a connection to the kernel.
    pub(super) fn flush(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        if let Err(error) = connection.flush() {
            self.lose(index, &error.to_string());
        }
    }

    fn churn(&mut self, now_us: u64) {
        let Some(period_us) = self.plan.churn_period_us() else { return };
        while let Some(due_us) = self.churn_due_us.filter(|&due| due <= now_us) {
            self.churn_due_us = Some(due_us + period_us);
            let Some(index) = self.free_place() else {
                self.ledger.churn_held_back += 1;
                continue;
            };
            let number = self.plan.sessions as u64 + self.ledger.churned;
            self.ledger.churned += 1;
            let talk = Talk::Http(Box::new(HttpSession::new(self.plan.seed, number)));
            if !self.open(index, talk, Life::Short) {
                self.free.push(index);
                continue;
            }
            // They wait in the connection's buffer until the handshake is done.
            if let Some(Some(connection)) = self.connections.get_mut(index) {
                for _ in 0..CHURN_REQUESTS {
                    issue(connection, None, due_us, now_us);
                }
                self.ledger.requests += CHURN_REQUESTS;
                self.ledger.in_flight += CHURN_REQUESTS;
            }
        }
    }

    fn free_place(&mut self) -> Option<usize> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.connections.len() >= self.plan.sessions + CHURN_MAX {
            return None;
        }
        self.connections.push(None);
        Some(self.connections.len() - 1)
    }

    /// Tells whoever waits for it that enough requests are in flight.
    fn pull_trigger(&mut self) {
        let Some(trigger) = self.trigger.as_ref().filter(|trigger| self.ledger.in_flight >= trigger.in_flight) else {
            return;
        };
        let busy = |index: usize, node: u16| {
            let in_flight = self.connections.get(index).and_then(Option::as_ref).map_or(0, |c| c.talk.in_flight());
            in_flight > 0 && self.node_of(index) == Some(node)
        };
        if (0..self.plan.sessions).any(|index| busy(index, trigger.node)) {
            // The asker looks at the live figure next, before this turn of the loop is over.
            Live::set(&self.live.in_flight, self.ledger.in_flight);
            // The receiver may have given up: then nobody needs the moment.
            let _ = trigger.now.try_send(self.ledger.in_flight);
            self.trigger = None;
        }
    }
}

/// Puts a request into the connection's outgoing bytes; false when the session's backlog is full.
pub(super) fn issue(connection: &mut Connection, wanted: Option<Request>, due_us: u64, now_us: u64) -> bool {
    if connection.stage == Stage::Ending {
        return false;
    }
    let mut bytes = std::mem::take(connection.outgoing());
    let issued = match &mut connection.talk {
        Talk::Http(session) => session.issue(wanted, due_us, now_us, &mut bytes),
        Talk::Stream(_) => false,
    };
    *connection.outgoing() = bytes;
    issued
}
