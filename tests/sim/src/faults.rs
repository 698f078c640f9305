//! Faults: when, which, and their ends.

use crate::fault_kind::FaultKind;
use crate::network::Endpoint;
use crate::node_process::Local;
use crate::world::{Happening, World};
use escape_engine::node::Event;
use escape_proto::SliceId;
use std::collections::VecDeque;

/// A fault, or the end of one.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The next fault is drawn.
    Next,
    /// A node's process dies.
    CrashNode(usize),
    /// A node's guest dies.
    CrashGuest(usize),
    /// A node's VMM gives a slice up.
    Quarantine(usize),
    /// A link breaks.
    Reset(usize),
    /// Traffic towards a side of a link is blocked, or is not any more.
    Block(usize, usize, bool),
    /// A link is slow, or is not any more.
    Slow(usize, u64),
    /// The store does not answer, or does.
    StoreDown(bool),
    /// The orchestrator's process dies.
    CrashOrchestrator,
    /// The edge daemon dies.
    CrashEdge,
    /// No fault: sessions are moved, again and again, in some runs.
    Moves,
}

impl World {
    /// Draws this run's mix of faults. Some runs have many of one kind, some have none.
    pub fn plan_faults(&mut self) {
        for weight in &mut self.fault_mix {
            *weight = if self.rng.one_in(3) { 0 } else { self.rng.range(1, 8) };
        }
        self.faults_on = true;
        self.after(150_000, Happening::Fault(Fault::Next));
        if self.rng.one_in(2) {
            self.after(100_000, Happening::Fault(Fault::Moves));
        }
    }

    /// A fault happens.
    pub fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Next => self.draw_fault(),
            Fault::CrashNode(n) => {
                self.crash_node(n);
                let delay =
                    if self.rng.one_in(3) { self.rng.range(1_000, 5_000) } else { self.rng.range(20_000, 200_000) };
                self.after(delay, Happening::Start { process: Endpoint::Node(n) });
            }
            Fault::Moves if self.faults_on => {
                let n = self.rng.index(self.nodes.len());
                self.ask_to_move(n);
                let delay = self.rng.range(1_000, 20_000);
                self.after(delay, Happening::Fault(Fault::Moves));
            }
            Fault::Moves => {}
            Fault::CrashGuest(n) => self.crash_guest(n, Vec::new()),
            Fault::Quarantine(n) => self.quarantine(n),
            Fault::Reset(link) => self.reset(link),
            Fault::Block(link, side, blocked) => self.block(link, side, blocked),
            Fault::Slow(link, by_us) => self.links[link].slow_us = by_us,
            Fault::StoreDown(down) => self.store.down = down,
            Fault::CrashOrchestrator => {
                self.crash_orchestrator();
                let delay = self.rng.range(5_000, 80_000);
                self.after(delay, Happening::Start { process: Endpoint::Orchestrator });
            }
            Fault::CrashEdge => {
                self.crash_edge();
                let delay = self.rng.range(5_000, 80_000);
                self.after(delay, Happening::Start { process: Endpoint::Edge });
            }
        }
    }

    fn draw_fault(&mut self) {
        if !self.faults_on {
            return;
        }
        let delay = self.rng.range(2_000, 60_000);
        self.after(delay, Happening::Fault(Fault::Next));
        let total: u64 = self.fault_mix.iter().sum();
        if total == 0 {
            return;
        }
        let mut at = self.rng.range(0, total - 1);
        for (kind, weight) in FaultKind::ALL.into_iter().zip(self.fault_mix) {
            if at < weight {
                self.faults_made[kind as usize] += 1;
                return self.make_fault(kind);
            }
            at -= weight;
        }
    }

    fn make_fault(&mut self, kind: FaultKind) {
        let n = self.rng.index(self.nodes.len());
        let link = self.rng.index(self.links.len());
        match kind {
            FaultKind::NodeCrash => self.fault(Fault::CrashNode(n)),
            FaultKind::TwoNodesCrash => {
                let other = (n + 1 + self.rng.index(self.nodes.len() - 1)) % self.nodes.len();
                self.fault(Fault::CrashNode(n));
                let delay = self.rng.range(0, 1_000);
                self.after(delay, Happening::Fault(Fault::CrashNode(other)));
            }
            FaultKind::GuestCrash => self.fault(Fault::CrashGuest(n)),
            FaultKind::NodePause => self.pause(Endpoint::Node(n), false),
            FaultKind::NodeHang => self.pause(Endpoint::Node(n), true),
            FaultKind::NodeIsolated => self.isolate(n),
            FaultKind::LinkReset => self.fault(Fault::Reset(link)),
            FaultKind::LinkCut => self.block_for_a_while(link, None),
            FaultKind::LinkCutOneWay => {
                let side = self.rng.index(2);
                self.block_for_a_while(link, Some(side));
            }
            FaultKind::LinkSlow => {
                let (by_us, for_us) = (self.rng.range(500, 20_000), self.rng.range(10_000, 150_000));
                self.slow_down(link, by_us, for_us);
            }
            FaultKind::StandbyGrey => {
                let other = (n + 1 + self.rng.index(self.nodes.len() - 1)) % self.nodes.len();
                let (by_us, for_us) = (self.rng.range(100_000, 400_000), self.rng.range(200_000, 600_000));
                if let Some(link) = self.link_of(Endpoint::Node(n), Endpoint::Node(other)) {
                    self.slow_down(link, by_us, for_us);
                }
            }
            FaultKind::StoreAway => {
                self.store.down = true;
                let delay = self.rng.range(5_000, 150_000);
                self.after(delay, Happening::Fault(Fault::StoreDown(false)));
            }
            FaultKind::OrchestratorCrash => self.fault(Fault::CrashOrchestrator),
            FaultKind::OrchestratorPause => self.pause(Endpoint::Orchestrator, false),
            FaultKind::EdgeCrash => self.fault(Fault::CrashEdge),
            FaultKind::SliceMoved => self.ask_to_move(n),
            FaultKind::SliceGivenUp => self.fault(Fault::Quarantine(n)),
            FaultKind::ClockJump => {
                let by_us = self.rng.range(1_000, 3_600_000_000);
                let ends = [Endpoint::Orchestrator, Endpoint::Edge];
                let end = ends.get(self.rng.index(self.nodes.len() + 2)).copied().unwrap_or(Endpoint::Node(n));
                self.jump_clock(end, by_us);
            }
        }
    }

    fn slow_down(&mut self, link: usize, by_us: u64, for_us: u64) {
        self.fault(Fault::Slow(link, by_us));
        self.after(for_us, Happening::Fault(Fault::Slow(link, 0)));
    }

    fn block_for_a_while(&mut self, link: usize, side: Option<usize>) {
        let delay = self.rng.range(5_000, 250_000);
        for s in 0..2 {
            if side.is_none_or(|only| only == s) {
                self.block(link, s, true);
                self.after(delay, Happening::Fault(Fault::Block(link, s, false)));
            }
        }
    }

    /// Cuts a node off: from everybody, from the orchestrator's side, or from its peers; both ways or one.
    fn isolate(&mut self, n: usize) {
        let scope = self.rng.index(3);
        let one_way = if self.rng.one_in(3) { Some(self.rng.index(2)) } else { None };
        let delay = self.rng.range(10_000, 250_000);
        for link in 0..self.links.len() {
            let l = &self.links[link];
            let Some(side) = l.side(Endpoint::Node(n)) else { continue };
            let to_node = matches!(l.ends[1 - side], Endpoint::Node(_));
            if (scope == 1 && to_node) || (scope == 2 && !to_node) {
                continue;
            }
            for s in 0..2 {
                if one_way.is_none_or(|way| (s == side) == (way == 0)) {
                    self.block(link, s, true);
                    self.after(delay, Happening::Fault(Fault::Block(link, s, false)));
                }
            }
        }
    }

    /// Stops a process; with `hang`, its heartbeats go on.
    fn pause(&mut self, process: Endpoint, hang: bool) {
        let delay = if self.rng.one_in(2) { self.rng.range(3_000, 20_000) } else { self.rng.range(20_000, 400_000) };
        let life = match process {
            Endpoint::Node(n) => self.nodes[n].process.as_mut().map(|p| {
                p.paused = true;
                p.beats_go_on = hang;
                p.life
            }),
            Endpoint::Orchestrator => self.orchestrator.as_mut().map(|o| {
                o.paused = true;
                o.life
            }),
            Endpoint::Edge => None,
        };
        if let Some(life) = life {
            self.after(delay, Happening::Resume { process, life });
        }
    }

    /// A stopped process goes on: what waited comes at once, in order.
    pub fn resume(&mut self, process: Endpoint, life: u64) {
        let inbox = match process {
            Endpoint::Node(n) => self.process(n, life).map(|p| {
                p.paused = false;
                std::mem::take(&mut p.inbox)
            }),
            Endpoint::Orchestrator => self.orchestrator.as_mut().filter(|o| o.life == life).map(|o| {
                o.paused = false;
                std::mem::take(&mut o.inbox)
            }),
            Endpoint::Edge => None,
        };
        for what in inbox.unwrap_or_default() {
            self.perform(what);
        }
    }

    /// Where things wait for a process that is stopped.
    pub fn inbox_if_paused(&mut self, process: Endpoint, is_beat: bool) -> Option<&mut VecDeque<Happening>> {
        match process {
            Endpoint::Node(n) => {
                let p = self.nodes[n].process.as_mut()?;
                (p.paused && !(is_beat && p.beats_go_on)).then_some(&mut p.inbox)
            }
            Endpoint::Orchestrator => {
                let o = self.orchestrator.as_mut()?;
                o.paused.then_some(&mut o.inbox)
            }
            Endpoint::Edge => None,
        }
    }

    /// A guest dies while these slices are referenced; its VMM starts it again.
    pub fn crash_guest(&mut self, n: usize, suspects: Vec<SliceId>) {
        let delay = self.rng.range(2_000, 60_000);
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        if p.paused || p.vmm.guest_life.take().is_none() {
            return;
        }
        p.vmm.guest.clear();
        p.vmm.valve.clear();
        for (_, gate) in p.vmm.gates.values_mut() {
            gate.open.clear();
            gate.all_open = false;
        }
        p.spend_leases();
        let life = p.life;
        self.feed(n, Event::GuestDown { suspects });
        self.after(delay, Happening::Local { node: n, life, what: Local::GuestReady });
    }

    /// All faults end: what is down starts, what is blocked flows, what is stopped goes on.
    pub fn heal(&mut self) {
        self.faults_on = false;
        self.store.down = false;
        for link in 0..self.links.len() {
            self.links[link].slow_us = 0;
            for side in 0..2 {
                self.block(link, side, false);
            }
        }
        let mut lives: Vec<(Endpoint, u64)> =
            self.orchestrator.iter().map(|o| (Endpoint::Orchestrator, o.life)).collect();
        for (n, place) in self.nodes.iter().enumerate() {
            lives.extend(place.process.as_ref().map(|p| (Endpoint::Node(n), p.life)));
        }
        for (process, life) in lives {
            self.resume(process, life);
        }
    }
}
