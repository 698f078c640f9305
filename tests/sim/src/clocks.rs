//! What processes take for the time: each host has its own, and some jump.

use crate::network::Endpoint;
use crate::rng::Rng;
use crate::world::World;
use escape_engine::Micros;

/// Hosts were started at different times, microseconds: up to two hours apart.
const APART_US: u64 = 7_200_000_000;

/// How far the clock of each process is ahead of the world's.
#[derive(Clone, Debug)]
pub struct Clocks {
    /// Microseconds: of the nodes, the orchestrator, the edge.
    ahead: Vec<u64>,
    /// When the orchestrator's jumped last: what it waits for may be over early then.
    pub orchestrator_jumped_at: Option<Micros>,
}

impl Clocks {
    /// Clocks of a cell with `n` nodes, none like another.
    pub fn new(n: usize, rng: &mut Rng) -> Self {
        Self { ahead: (0..n + 2).map(|_| rng.range(0, APART_US)).collect(), orchestrator_jumped_at: None }
    }

    const fn place(&self, end: Endpoint) -> usize {
        match end {
            Endpoint::Node(n) => n,
            Endpoint::Orchestrator => self.ahead.len() - 2,
            Endpoint::Edge => self.ahead.len() - 1,
        }
    }
}

impl World {
    /// The time as a process sees it.
    pub fn time_at(&self, end: Endpoint) -> Micros {
        self.now + self.clocks.ahead[self.clocks.place(end)]
    }

    /// A process's clock jumps forwards.
    pub fn jump_clock(&mut self, end: Endpoint, by_us: u64) {
        let place = self.clocks.place(end);
        self.clocks.ahead[place] += by_us;
        if end == Endpoint::Orchestrator {
            self.clocks.orchestrator_jumped_at = Some(self.now);
        }
    }
}
