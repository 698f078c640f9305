//! Faults: when, which, and their ends.

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
}

impl World {
    /// Draws this run's mix of faults. Some runs have many of one kind, some have none.
    pub fn plan_faults(&mut self) {
        for kind in 0..11 {
            let weight = if self.rng.one_in(3) { 0 } else { self.rng.range(1, 8) };
            self.fault_mix.insert(kind, weight);
        }
        self.faults_on = true;
        self.after(150_000, Happening::Fault(Fault::Next));
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
        let total: u64 = self.fault_mix.values().sum();
        if total == 0 {
            return;
        }
        let mut at = self.rng.range(0, total - 1);
        let mix = self.fault_mix.iter();
        let mut kind = 0;
        for (k, weight) in mix {
            if at < *weight {
                kind = *k;
                break;
            }
            at -= weight;
        }
        self.make_fault(kind);
    }

    fn make_fault(&mut self, kind: u8) {
        let n = self.rng.index(self.nodes.len());
        let link = self.rng.index(self.links.len());
        match kind {
            0 => self.fault(Fault::CrashNode(n)),
            1 => self.fault(Fault::CrashGuest(n)),
            2 => self.fault(Fault::Reset(link)),
            3 => self.block_for_a_while(link, None),
            4 => {
                let side = self.rng.index(2);
                self.block_for_a_while(link, Some(side));
            }
            5 => self.isolate(n),
            6 => {
                let by_us = self.rng.range(500, 20_000);
                self.fault(Fault::Slow(link, by_us));
                let delay = self.rng.range(10_000, 150_000);
                self.after(delay, Happening::Fault(Fault::Slow(link, 0)));
            }
            7 => {
                self.store.down = true;
                let delay = self.rng.range(5_000, 150_000);
                self.after(delay, Happening::Fault(Fault::StoreDown(false)));
            }
            8 => match self.rng.index(3) {
                0 => self.fault(Fault::CrashEdge),
                1 => self.fault(Fault::CrashOrchestrator),
                _ => self.pause(Endpoint::Orchestrator, false),
            },
            9 => self.fault(Fault::Quarantine(n)),
            _ => {
                let hang = self.rng.one_in(4);
                self.pause(Endpoint::Node(n), hang);
            }
        }
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
