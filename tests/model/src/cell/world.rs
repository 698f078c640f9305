//! A state of the whole cell.

use super::bounds::Budget;
use super::control::{Control, EdgeSide};
use super::message::{Message, PROCESSES, Queue};
use super::process::{NODES, NodePlace};
use super::truth::Truth;
use crate::part::Part;
use crate::report::Broken;
use escape_engine::Mutant;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A state. Its parts are shared with its neighbours.
#[derive(Clone)]
pub struct World {
    /// Nodes.
    pub nodes: [Part<NodePlace>; NODES],
    /// Orchestrator and store.
    pub control: Part<Control>,
    /// Edge and fabric.
    pub edge: Part<EdgeSide>,
    /// What really happened.
    pub truth: Part<Truth>,
    /// What may still happen.
    pub left: Budget,
    /// The first broken promise.
    pub broken: Option<Arc<Broken>>,
    queues: [Option<Part<Queue>>; PROCESSES * PROCESSES],
    linked: [bool; NODES],
}

impl World {
    /// A cell in which nothing has happened.
    pub fn new(groups_per_node: u32, broken: Option<Mutant>) -> Self {
        Self {
            nodes: std::array::from_fn(|_| Part::new(NodePlace::new())),
            control: Part::new(Control::new(groups_per_node, broken)),
            edge: Part::new(EdgeSide::new(broken)),
            truth: Part::new(Truth::default()),
            left: Budget::default(),
            broken: None,
            queues: std::array::from_fn(|_| None),
            linked: [false; NODES],
        }
    }

    /// What is on its way.
    pub fn queue(&self, from: usize, to: usize) -> &[Message] {
        self.queues[from * PROCESSES + to].as_ref().map_or(&[], |q| q.as_slice())
    }

    /// Sends.
    pub fn push(&mut self, from: usize, to: usize, message: Message) {
        match &mut self.queues[from * PROCESSES + to] {
            Some(queue) => queue.edit().push(message),
            empty => *empty = Some(Part::new(vec![message])),
        }
    }

    /// Takes the first message.
    pub fn pop(&mut self, from: usize, to: usize) -> Option<Message> {
        let place = &mut self.queues[from * PROCESSES + to];
        let queue = place.as_mut()?.edit();
        let message = (!queue.is_empty()).then(|| queue.remove(0));
        if queue.is_empty() {
            *place = None;
        }
        message
    }

    /// What is on its way is lost.
    pub fn lose_all(&mut self, from: usize, to: usize) {
        self.queues[from * PROCESSES + to] = None;
    }

    /// The replication link between two nodes.
    pub const fn is_linked(&self, a: usize, b: usize) -> bool {
        self.linked[a + b - 1]
    }

    /// Makes or breaks it.
    pub const fn set_linked(&mut self, a: usize, b: usize, linked: bool) {
        self.linked[a + b - 1] = linked;
    }

    /// Notes a broken promise; the first one counts.
    pub fn violate(&mut self, promise: &'static str, detail: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(Arc::new(Broken { promise, detail: detail() }));
        }
    }

    /// The state is complete.
    pub fn seal(&mut self) {
        self.nodes.iter_mut().for_each(Part::seal);
        self.control.seal();
        self.edge.seal();
        self.truth.seal();
        self.queues.iter_mut().flatten().for_each(Part::seal);
    }

    fn hashes(&self) -> [u64; NODES + 3] {
        let [a, b, c] = &self.nodes;
        [a.hash(), b.hash(), c.hash(), self.control.hash(), self.edge.hash(), self.truth.hash()]
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hashes().hash(state);
        self.left.hash(state);
        self.linked.hash(state);
        self.broken.as_ref().map(|b| b.promise).hash(state);
        for queue in &self.queues {
            state.write_u64(queue.as_ref().map_or(0, Part::hash));
        }
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        let queues = |w: &Self| w.queues.each_ref().map(|q| q.as_ref().map_or(0, Part::hash));
        self.hashes() == other.hashes()
            && (self.left, self.linked, &self.broken) == (other.left, other.linked, &other.broken)
            && queues(self) == queues(other)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("hashes", &self.hashes()).field("broken", &self.broken).finish()
    }
}
