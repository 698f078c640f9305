//! Links that behave like TCP connections (in order, or reset), and datagrams that may be lost, doubled or late.

use crate::rng::Rng;
use std::collections::VecDeque;

/// A process of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// Node n.
    Node(usize),
    /// The orchestrator.
    Orchestrator,
    /// The edge daemon.
    Edge,
}

/// One connection between two processes.
#[derive(Debug)]
pub struct Link<M> {
    /// Its ends.
    pub ends: [Endpoint; 2],
    /// Number of the present connection; 0 = none.
    pub session: u64,
    /// The former connection, and until when its rest may arrive, per receiving side.
    pub rest: (u64, [u64; 2]),
    /// When the last message to each side arrives: the next is not earlier.
    pub arrives: [u64; 2],
    /// Traffic towards this side does not pass.
    pub blocked: [bool; 2],
    /// What is stuck because of that.
    pub stuck: [VecDeque<M>; 2],
    /// The connection that the side was told of as up, and not yet as down; 0 = none.
    pub told_up: [u64; 2],
    /// Additional delay, microseconds.
    pub slow_us: u64,
    /// A reset because of a blocked side is planned.
    pub reset_planned: bool,
}

impl<M> Link<M> {
    /// A link that is not connected yet.
    pub fn new(a: Endpoint, b: Endpoint) -> Self {
        Self {
            ends: [a, b],
            session: 0,
            rest: (0, [0; 2]),
            arrives: [0; 2],
            blocked: [false; 2],
            stuck: [VecDeque::new(), VecDeque::new()],
            told_up: [0; 2],
            slow_us: 0,
            reset_planned: false,
        }
    }

    /// Which side an endpoint is.
    pub fn side(&self, end: Endpoint) -> Option<usize> {
        self.ends.iter().position(|e| *e == end)
    }

    /// When a message that leaves now arrives at a side; messages stay in order.
    pub fn arrival(&mut self, now: u64, side: usize, rng: &mut Rng) -> u64 {
        let spread = if rng.one_in(20) { rng.range(200, 2_000) } else { rng.range(20, 200) };
        let at = (now + spread + self.slow_us).max(self.arrives[side]);
        self.arrives[side] = at;
        at
    }
}

/// All links of a cell with `n` nodes.
pub fn links<M>(n: usize) -> Vec<Link<M>> {
    let mut links = Vec::new();
    for i in 0..n {
        for j in i + 1..n {
            links.push(Link::new(Endpoint::Node(i), Endpoint::Node(j)));
        }
        links.push(Link::new(Endpoint::Node(i), Endpoint::Orchestrator));
        links.push(Link::new(Endpoint::Node(i), Endpoint::Edge));
    }
    links.push(Link::new(Endpoint::Orchestrator, Endpoint::Edge));
    links
}
