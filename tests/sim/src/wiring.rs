//! Connections: made, used, blocked, reset.

use crate::network::Endpoint;
use crate::world::{Happening, Message, World};
use escape_proto::Beat;
use std::collections::VecDeque;

impl World {
    /// Sends over a link from one of its ends; lost if there is no connection.
    pub fn send(&mut self, link: usize, from: Endpoint, message: Message) {
        let l = &mut self.links[link];
        let Some(side) = l.side(from).map(|s| 1 - s) else { return };
        let session = l.session;
        if session == 0 {
            return;
        }
        let at = if self.bulk_turn {
            // A channel of its own, as slow as it likes: later messages may overtake it, it overtakes none.
            (self.now + self.rng.range(50, 6_000) + l.slow_us).max(l.arrives[side])
        } else {
            l.arrival(self.now, side, &mut self.rng)
        };
        self.at(at, Happening::Arrive { link, session, side, message });
    }

    /// The link between two processes.
    pub fn link_of(&self, a: Endpoint, b: Endpoint) -> Option<usize> {
        self.links.iter().position(|l| l.side(a).is_some() && l.side(b).is_some())
    }

    /// A message arrives, if its connection lives or this is the rest of the former one.
    pub fn arrive(&mut self, link: usize, session: u64, side: usize, message: Message) {
        let now = self.now;
        let l = &mut self.links[link];
        let rest = l.rest.0 == session && now <= l.rest.1[side];
        if l.session != session && !rest {
            return;
        }
        let (to, from) = (l.ends[side], l.ends[1 - side]);
        if matches!(message, Message::Up(_)) {
            l.told_up[side] = session;
        }
        self.receive(to, from, link, message);
    }

    /// A process has lost a connection.
    pub fn gone(&mut self, link: usize, session: u64, side: usize) {
        let l = &mut self.links[link];
        if l.told_up[side] != session {
            return;
        }
        l.told_up[side] = 0;
        let (to, from) = (l.ends[side], l.ends[1 - side]);
        self.lose(to, from, link);
    }

    /// A connection is tried again and again until it is there.
    pub fn connect(&mut self, link: usize) {
        let l = &self.links[link];
        let ends = l.ends;
        let free =
            l.session == 0 && l.told_up == [0; 2] && l.blocked == [false; 2] && self.now > l.rest.1[0].max(l.rest.1[1]);
        let ready = ends.iter().all(|e| self.is_ready(*e, ends));
        if l.session != 0 {
            return;
        }
        if !free || !ready {
            let delay = self.rng.range(2_000, 6_000);
            return self.after(delay, Happening::Connect { link });
        }
        self.last_session += 1;
        self.links[link].session = self.last_session;
        self.links[link].reset_planned = false;
        let members = ends.map(|e| self.member_of(e));
        for (from, member) in ends.into_iter().zip(members) {
            self.send(link, from, Message::Up(member));
        }
    }

    /// Breaks a connection: a part of what is under way still arrives, then each side notices.
    pub fn reset(&mut self, link: usize) {
        let l = &mut self.links[link];
        let session = std::mem::take(&mut l.session);
        if session == 0 {
            return;
        }
        let noticed = [0, 1]
            .map(|_| self.now + if self.rng.one_in(3) { self.rng.range(0, 20_000) } else { self.rng.range(0, 500) });
        l.rest = (session, noticed);
        l.stuck = [VecDeque::new(), VecDeque::new()];
        l.arrives = [0; 2];
        l.reset_planned = false;
        for (side, at) in noticed.into_iter().enumerate() {
            self.at(at, Happening::Gone { link, session, side });
        }
        let delay = self.rng.range(1_000, 10_000);
        self.after(delay, Happening::Connect { link });
    }

    /// Blocks or unblocks the traffic of a link towards one side.
    pub fn block(&mut self, link: usize, side: usize, blocked: bool) {
        let l = &mut self.links[link];
        l.blocked[side] = blocked;
        let session = l.session;
        if blocked {
            if session != 0 && !l.reset_planned {
                l.reset_planned = true;
                let delay = self.rng.range(20_000, 150_000);
                self.after(delay, Happening::TimeOut { link, session });
            }
            return;
        }
        let stuck = std::mem::take(&mut self.links[link].stuck[side]);
        for message in stuck {
            self.dispatch(Happening::Arrive { link, session, side, message });
        }
    }

    /// A blocked connection does not live for ever.
    pub fn time_out(&mut self, link: usize, session: u64) {
        let l = &mut self.links[link];
        if l.session == session {
            l.reset_planned = false;
            if l.blocked != [false; 2] {
                self.reset(link);
            }
        }
    }

    /// Sends a heartbeat: it may be lost, late or doubled.
    pub fn send_beat(&mut self, from: Endpoint, to: Endpoint, beat: Beat) {
        let Some(link) = self.link_of(from, to) else { return };
        let Some(side) = self.links[link].side(to) else { return };
        if self.links[link].blocked[side] || (self.faults_on && self.rng.one_in(25)) {
            return;
        }
        for _ in 0..1 + u32::from(self.rng.one_in(40)) {
            let delay = if self.rng.one_in(40) { self.rng.range(1_000, 8_000) } else { self.rng.range(30, 300) };
            self.after(delay, Happening::Beat { to, beat });
        }
    }

    /// Can this end take part in a connection? Nodes talk to each other only after they have joined.
    fn is_ready(&self, end: Endpoint, ends: [Endpoint; 2]) -> bool {
        let between_nodes = matches!(ends, [Endpoint::Node(_), Endpoint::Node(_)]);
        let to_edge = ends.contains(&Endpoint::Edge);
        match end {
            Endpoint::Node(n) => self.nodes[n]
                .process
                .as_ref()
                .is_some_and(|p| !p.paused && (p.engine.me().is_some() || !(between_nodes || to_edge))),
            Endpoint::Orchestrator => self.orchestrator.as_ref().is_some_and(|o| !o.paused),
            Endpoint::Edge => self.edge.is_some(),
        }
    }
}
