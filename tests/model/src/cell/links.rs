//! Processes that begin and end, and the connections between them.

use super::message::{EDGE, Message, ORCHESTRATOR};
use super::process::{NODES, Process};
use super::step::Step;
use crate::part::Part;
use escape_engine::Mutant;
use escape_engine::node::Event;
use escape_engine::orchestrator::{OrchestratorEvent, Peer};
use escape_proto::{EdgeRequest, JoinRequest, LeaseSet, Member, Revision};

impl Step<'_> {
    /// A node's process starts and wants to join.
    pub fn start_node(&mut self, n: usize) {
        let place = self.world.nodes[n].edit();
        place.lives += 1;
        let life = place.lives;
        place.process = Some(Process::new(n, life, self.bounds, self.mutant));
        self.feed(n, Event::GuestReady);
        self.world.control.edit().links[n] = Some(life);
        self.ask_to_join(n);
    }

    fn ask_to_join(&mut self, n: usize) {
        let place = &self.world.nodes[n];
        let Some(p) = &place.process else { return };
        let seen = if self.mutant == Some(Mutant::EpochReused) { Revision(0) } else { place.seen };
        let request = JoinRequest {
            host: format!("host {n}"),
            digest: [1; 32],
            addr: String::new(),
            leases: 1,
            seen,
            cluster: None,
            // The fault: the same name for every process of the node.
            memory: (n as u64 + 1) << 8
                | if self.mutant == Some(Mutant::ClaimWithoutMemory) { 0 } else { p.life.into() },
        };
        let join = Message::Join(p.life, request);
        self.send(n, ORCHESTRATOR, join);
    }

    /// A node's process ends at once: all its memory is gone.
    pub fn crash_node(&mut self, n: usize, kept: bool) {
        self.bury(n);
        if self.world.nodes[n].edit().process.take().is_none() {
            return;
        }
        for other in 0..=EDGE {
            self.world.lose_all(other, n);
            if !kept {
                self.world.lose_all(n, other);
            }
        }
        self.hang_up(n);
        let control = self.world.control.edit();
        control.links[n] = None;
        control.members[n] = None;
    }

    /// What a life that ends knows of each slice.
    pub fn bury(&mut self, n: usize) {
        let Some(p) = &self.world.nodes[n].process else { return };
        if let Some(member) = p.joined {
            let truth = self.world.truth.edit();
            let known = truth.stories.keys().map(|slice| (*slice, p.vmm.knows(*slice))).collect();
            truth.graves.insert(member, known);
        }
    }

    /// A node's life is over, its process goes on: it keeps its images, and nothing else, until it has joined anew.
    pub fn step_out(&mut self, n: usize) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        p.joined = None;
        p.leases.clear();
        p.spent = LeaseSet::default();
        p.under_way.clear();
        p.bodies.clear();
        p.vmm.step_out();
        p.guest_up = false;
        let peers: Vec<Member> = p.peers.iter_mut().filter_map(Option::take).collect();
        for member in peers {
            self.feed(n, Event::PeerDown(member));
        }
        self.feed(n, Event::GuestDown { suspects: Vec::new() });
        for other in 0..=EDGE {
            self.world.lose_all(other, n);
        }
        self.hang_up(n);
        self.world.lose_all(n, ORCHESTRATOR);
        self.greet_orchestrator(n);
    }

    /// The links to the other nodes break at this end; what was sent before still arrives.
    fn hang_up(&mut self, n: usize) {
        for other in (0..NODES).filter(|other| *other != n) {
            let known = self.world.nodes[other].process.as_ref().is_some_and(|p| p.peers[n].is_some());
            if self.world.is_linked(n, other) || (known && !self.world.queue(n, other).contains(&Message::Down)) {
                self.world.set_linked(n, other, false);
                self.world.push(n, other, Message::Down);
            }
        }
    }

    /// The link between two nodes breaks.
    pub fn reset(&mut self, a: usize, b: usize, kept: bool) {
        self.world.set_linked(a, b, false);
        for (from, to) in [(a, b), (b, a)] {
            if !kept {
                self.world.lose_all(from, to);
            }
            self.world.push(from, to, Message::Down);
        }
    }

    /// Two nodes connect.
    pub fn connect(&mut self, a: usize, b: usize) {
        self.world.set_linked(a, b, true);
        for (from, to) in [(a, b), (b, a)] {
            if let Some(member) = self.world.nodes[from].member() {
                self.world.push(from, to, Message::Up(member));
            }
        }
    }

    /// A node's link to the orchestrator is made anew; all that was on its way is lost.
    pub fn reset_control(&mut self, n: usize) {
        self.world.lose_all(n, ORCHESTRATOR);
        self.world.lose_all(ORCHESTRATOR, n);
        self.greet_orchestrator(n);
    }

    fn greet_orchestrator(&mut self, n: usize) {
        let member = self.world.nodes[n].member();
        let life = self.world.nodes[n].process.as_ref().map(|p| p.life);
        let control = self.world.control.edit();
        control.links[n] = life;
        control.members[n] = member;
        match member {
            Some(member) => self.tell_orchestrator(OrchestratorEvent::LinkUp(Peer::Node(member))),
            None => self.ask_to_join(n),
        }
    }

    /// Another orchestrator, which reads the store.
    pub fn replace_orchestrator(&mut self, written: bool, groups_per_node: u32) {
        if written && let Some((_, txn)) = self.world.control.edit().txn.take() {
            // Nobody is told of it any more.
            self.apply_txn(&txn).ok();
        }
        let control = self.world.control.edit();
        if let Some(old) = control.before.take() {
            control.store = *old;
        }
        control.machine = super::control::machine(groups_per_node, self.mutant);
        control.txn = None;
        control.condemned = [None; NODES];
        let image = Box::new(control.store.clone());
        for n in (0..NODES).chain([EDGE]) {
            self.world.lose_all(n, ORCHESTRATOR);
            self.world.lose_all(ORCHESTRATOR, n);
        }
        self.tell_orchestrator(OrchestratorEvent::Started { image });
        for n in 0..NODES {
            if self.world.nodes[n].process.is_some() {
                self.greet_orchestrator(n);
            }
        }
        self.tell_orchestrator(OrchestratorEvent::LinkUp(Peer::Edge));
    }

    /// Another edge daemon; the fabric goes on as it is.
    pub fn replace_edge(&mut self) {
        let steering = self.world.edge.steering;
        let edge = super::control::EdgeSide { steering, ..super::control::EdgeSide::new(self.mutant) };
        self.world.edge = Part::new(edge);
        for n in (0..NODES).chain([ORCHESTRATOR]) {
            self.world.lose_all(n, EDGE);
            self.world.lose_all(EDGE, n);
        }
        self.tell_orchestrator(OrchestratorEvent::LinkUp(Peer::Edge));
        for n in 0..NODES {
            let Some(p) = &self.world.nodes[n].process else { continue };
            let groups: Vec<_> = p.engine.gated_groups().collect();
            if let Some(me) = p.engine.me().filter(|_| !groups.is_empty()) {
                self.send(n, EDGE, Message::ToEdge(me, EdgeRequest::GateClosed { groups }));
            }
        }
    }

    /// A guest dies; its VMM goes on.
    pub fn crash_guest(&mut self, n: usize) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        p.guest_up = false;
        p.vmm.guest.clear();
        p.vmm.valve.clear();
        for gate in p.vmm.gates.values_mut() {
            gate.open.clear();
            gate.all_open = false;
        }
        p.spend_leases();
        self.feed(n, Event::GuestDown { suspects: Vec::new() });
    }

    /// The next guest runs.
    pub fn start_guest(&mut self, n: usize) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        p.guest_up = true;
        p.guest_life += 1;
        self.feed(n, Event::GuestReady);
    }
}
