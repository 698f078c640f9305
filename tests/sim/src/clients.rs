//! Clients: they open, ask, check what they get, and close.

use crate::service::{Reply, Request, Session};
use crate::world::{Happening, World};
use escape_proto::{Flow, SliceId};

/// One client; it has one session at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    port: u16,
    /// Slice that it talks to and the last state that it has seen.
    pub session: Option<(SliceId, Session)>,
    /// Waits for an answer to its request.
    waiting: bool,
    closing: bool,
    sent_at: u64,
    /// Since when it has had no new answer.
    pub stuck_since: u64,
    /// Its next request but so many kills the guest that serves it, each time.
    poison_in: Option<u64>,
    /// Requests left before it closes.
    left: u64,
    /// Answers got.
    pub served: u64,
    /// Sessions ended in order.
    pub sessions: u64,
    /// Sessions given up.
    pub given_up: u64,
}

impl Client {
    /// Client's retransmission timer, microseconds.
    pub const RETRY_US: u64 = 40_000;
    /// After so long without an answer it opens another session.
    pub const PATIENCE_US: u64 = 1_500_000;

    /// Since when it waits for the reply to its request, if it does.
    pub const fn waits_since(&self) -> Option<u64> {
        if self.waiting { Some(self.stuck_since) } else { None }
    }

    /// Its connection.
    pub const fn flow(&self) -> Flow {
        Flow { ip: [192, 0, 2, 1], port: self.port, service_port: 80 }
    }
}

impl World {
    /// A client's timer: begin, ask, or ask again.
    pub fn client_timer(&mut self, c: usize) {
        let now = self.now;
        let gone = |slice| self.oracle.is_lost(slice) || self.oracle.is_given_up(slice);
        let lost = self.clients[c].session.is_some_and(|(slice, _)| gone(slice));
        let client = &mut self.clients[c];
        let impatient = client.waiting && now > client.stuck_since + Client::PATIENCE_US;
        if client.port == 0 || lost || impatient {
            if impatient && !lost {
                client.given_up += 1;
                if let Some((slice, _)) = client.session {
                    self.oracle.give_up(slice);
                }
            }
            self.begin_session(c);
        } else if !client.waiting {
            client.waiting = true;
            client.stuck_since = now;
            client.closing = client.left == 0;
            client.left = client.left.saturating_sub(1);
            client.poison_in = client.poison_in.map(|n| n.saturating_sub(1));
            self.send_request(c);
        } else if now > client.sent_at + Client::RETRY_US {
            self.send_request(c);
        }
        let delay = self.rng.range(5_000, 20_000);
        self.after(delay, Happening::ClientTimer { client: c });
    }

    fn begin_session(&mut self, c: usize) {
        let left = self.rng.range(1, 8);
        let poison_in = self.rng.one_in(60).then(|| self.rng.range(1, 4));
        self.next_port += 1;
        let (port, now) = (self.next_port, self.now);
        let old = self.clients[c];
        self.clients[c] =
            Client { port, session: None, waiting: true, closing: false, stuck_since: now, left, poison_in, ..old };
        self.send_request(c);
    }

    fn send_request(&mut self, c: usize) {
        let now = self.now;
        let client = &mut self.clients[c];
        client.sent_at = now;
        let number = client.session.map_or(0, |(_, s)| s.count + 1);
        let poison = self.faults_on && client.poison_in == Some(0);
        let request = Request { flow: client.flow(), number, close: client.closing, poison };
        let Some(steering) = self.fabric.steering(request.flow) else { return };
        for (member, mirrored) in [(Some(steering.owner), false), (steering.mirror, true)] {
            let Some(member) = member else { continue };
            if self.rng.one_in(60) {
                continue;
            }
            let delay = self.rng.range(30, 300);
            let node = usize::from(member.node.0);
            self.after(delay, Happening::ToNode { node, request, mirrored });
        }
    }

    /// A reply: it must follow from the last one (I8).
    pub fn reply_arrives(&mut self, c: usize, reply: Reply) {
        let now = self.now;
        let client = &mut self.clients[c];
        if client.flow() != reply.flow || client.port == 0 {
            return;
        }
        let Some((slice, seen)) = client.session else {
            if reply.state.count == 0 {
                client.session = Some((reply.slice, reply.state));
                client.waiting = false;
                client.stuck_since = now;
            }
            return;
        };
        if slice != reply.slice || reply.state.count < seen.count {
            return;
        }
        if reply.state.count == seen.count {
            if reply.state != seen {
                let detail = format!("client {c}, slice {slice}: reply {} came with two contents", seen.count);
                self.oracle.violate("I2", detail);
            }
            return;
        }
        if !reply.state.follows(seen) {
            let detail = format!("client {c}, slice {slice}: reply {} does not follow", reply.state.count);
            return self.oracle.violate("I8", detail);
        }
        client.session = Some((slice, reply.state));
        client.waiting = false;
        client.stuck_since = now;
        client.served += 1;
        if reply.state.closed {
            client.sessions += 1;
            client.port = 0;
        }
    }
}
