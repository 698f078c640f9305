//! What the kernel reports about the generator's connections.

use std::collections::HashSet;
use std::net::SocketAddr;

use mio::event::Event;

use super::connection::{Connection, Life, Stage, Talk};
use super::generator::{Generator, Phase};
use super::violation::Violation;

impl Generator {
    /// An event of a connection. It may belong to one that is gone: then it says nothing.
    pub(super) fn on_event(&mut self, event: &Event) {
        let index = event.token().0;
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        if connection.stage == Stage::Connecting {
            match connection.finish_connect() {
                Ok(true) => {
                    self.connecting -= 1;
                    self.open += u64::from(connection.life == Life::Whole);
                }
                Ok(false) => return,
                Err(error) => return self.lose(index, &format!("connect: {error}")),
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            connection.readable = true;
        }
        if event.is_writable() {
            self.flush(index);
        }
        let Some(Some(connection)) = self.connections.get(index) else { return };
        // A stream is read at its turns, so that the server's sending keeps to a low rate; until it ends.
        let reads_now = matches!(connection.talk, Talk::Http(_)) || connection.stage == Stage::Ending;
        if reads_now {
            self.read(index, usize::MAX, event.is_read_closed());
        }
    }

    /// Reads up to `budget` bytes of a connection and checks them. `to_the_end`: the other side has ended, so a short
    /// read does not mean that nothing more will come.
    pub(super) fn read(&mut self, index: usize, budget: usize, to_the_end: bool) {
        let mut left = budget;
        while left > 0 {
            let Some(Some(connection)) = self.connections.get_mut(index) else { return };
            if !connection.readable {
                return;
            }
            let room = left.min(self.scratch.len());
            let Some(buffer) = self.scratch.get_mut(..room) else { return };
            match connection.read(buffer) {
                Ok(None) => return,
                Ok(Some(0)) => return self.on_end(index),
                Ok(Some(count)) => {
                    left -= count;
                    if !self.check(index, count) {
                        return;
                    }
                    // Less than asked for: the kernel's queue is empty, and the next byte is a new event.
                    if count < room && !to_the_end {
                        if let Some(Some(connection)) = self.connections.get_mut(index) {
                            connection.readable = false;
                        }
                        return;
                    }
                }
                Err(error) => return self.lose(index, &error.to_string()),
            }
        }
    }

    /// Checks the first `count` bytes of the scratch buffer as received by `index`; false: the session is given up.
    fn check(&mut self, index: usize, count: usize) -> bool {
        let now_us = self.clock.now_us();
        let (Some(bytes), Some(Some(connection))) = (self.scratch.get(..count), self.connections.get_mut(index)) else {
            return false;
        };
        let ledger = &mut self.ledger;
        let checked = match &mut connection.talk {
            Talk::Http(session) => session.receive(bytes, now_us, &mut |done| ledger.completed(index, done)),
            Talk::Stream(session) => session.receive(bytes),
        };
        if let Err(violation) = checked {
            self.give_up(index, &violation);
            return false;
        }
        let answered = matches!(&connection.talk, Talk::Http(session) if session.in_flight() == 0);
        let is_over = answered && connection.life == Life::Short && connection.stage == Stage::Open;
        if is_over && let Err(error) = connection.end() {
            self.lose(index, &error.to_string());
            return false;
        }
        true
    }

    /// The other side ended its direction.
    fn on_end(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get(index) else { return };
        let expected = connection.stage == Stage::Ending && connection.talk.in_flight() == 0;
        let end = match &connection.talk {
            Talk::Stream(session) if expected => session.finish(),
            Talk::Http(_) if expected => Ok(()),
            _ => return self.lose(index, "the server ended the connection"),
        };
        match end {
            Ok(()) => self.remove(index),
            Err(violation) => self.give_up(index, &violation),
        }
    }

    /// The connection is gone without our doing.
    pub(super) fn lose(&mut self, index: usize, how: &str) {
        let Some(Some(connection)) = self.connections.get(index) else { return };
        // While the last connections are closed all has been checked: a reset now takes nothing from anyone.
        if matches!(self.phase, Phase::Closing { .. }) && connection.talk.in_flight() == 0 {
            return self.remove(index);
        }
        let unanswered = connection.talk.in_flight() as u64;
        self.give_up(index, &Violation::Reset { how: how.into(), unanswered });
    }

    /// Counts a violation and closes the connection.
    pub(super) fn give_up(&mut self, index: usize, violation: &Violation) {
        let Some(Some(connection)) = self.connections.get(index) else { return };
        let unanswered = connection.talk.in_flight() as u64;
        // A short session is not remembered: there is no bound on how many there are.
        let client = if connection.life == Life::Whole { connection.local_addr() } else { None };
        self.ledger.violated(index, client, violation, unanswered);
        self.gone += u64::from(connection.life == Life::Whole);
        self.remove(index);
    }

    /// Gives up the sessions of `clients`, which are lost with their group. Returns how many of the run's sessions.
    pub(super) fn excuse(&mut self, clients: &[SocketAddr]) -> usize {
        let clients: HashSet<&SocketAddr> = clients.iter().collect();
        let given_up = clients.iter().filter(|client| self.ledger.excuse_given_up(client)).count();
        let is_lost = |connection: &Connection| connection.local_addr().is_some_and(|client| clients.contains(&client));
        let living = self.connections.iter().enumerate().filter_map(|(index, c)| c.as_ref().map(|c| (index, c)));
        let lost: Vec<_> = living.filter(|(_, c)| is_lost(c)).map(|(index, c)| (index, c.talk.in_flight())).collect();
        for (index, unanswered) in &lost {
            self.ledger.excuse(*index, *unanswered as u64);
            self.remove(*index);
        }
        given_up + lost.len()
    }

    /// Closes a connection and frees its place.
    pub(super) fn remove(&mut self, index: usize) {
        let Some(place) = self.connections.get_mut(index) else { return };
        let Some(connection) = place.take() else { return };
        let is_connecting = connection.stage == Stage::Connecting;
        self.connecting -= usize::from(is_connecting);
        match connection.life {
            Life::Short => self.free.push(index),
            Life::Whole => self.open -= u64::from(!is_connecting),
        }
    }
}
