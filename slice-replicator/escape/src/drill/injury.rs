//! A fault with its place found: what is done to the cell, and how that is ended.

use std::fmt;
use std::time::Instant;

use super::cell_trait::{Cell, CellError};
use super::fault::Fault;
use super::strike::Moment;

/// Something that is done to a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injury {
    /// Nothing: only time passes.
    Nothing,
    /// A node fails.
    Node {
        /// Which.
        node: u16,
        /// How.
        fault: Fault,
    },
    /// The orchestrator is killed.
    OrchestratorKilled(Moment),
    /// The orchestrator is stopped: neither it nor the store does anything.
    OrchestratorStopped,
    /// Frames between two parts of the cell are lost.
    Cut(Cut),
}

/// A cut link of the control network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Whose frames are lost.
    pub from: Party,
    /// Whom they do not reach.
    pub to: Party,
    /// Whether those of the other direction are lost too.
    pub both: bool,
}

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A node.
    Node(u16),
    /// The orchestrator, and with it the store.
    Orchestrator,
}

impl Injury {
    /// Does it. Returns the last instant at which all was certainly well.
    pub fn inflict(&self, cell: &mut dyn Cell) -> Result<Instant, CellError> {
        match *self {
            Self::Nothing => Ok(Instant::now()),
            Self::Node { node, fault } => cell.inject(node, fault),
            Self::OrchestratorKilled(moment) => cell.kill_orchestrator(moment),
            Self::OrchestratorStopped => cell.stop_orchestrator(),
            Self::Cut(cut) => cell.cut(cut),
        }
    }

    /// Ends it.
    pub fn heal(&self, cell: &mut dyn Cell) -> Result<(), CellError> {
        match *self {
            Self::Nothing => Ok(()),
            Self::Node { node, fault } => cell.heal(node, fault),
            Self::OrchestratorKilled(_) | Self::OrchestratorStopped => cell.heal_orchestrator(),
            Self::Cut(cut) => cell.mend(cut),
        }
    }

    /// The node whose sessions must be taken over by others.
    pub const fn failed_node(&self) -> Option<u16> {
        match self {
            Self::Node { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// A node that the fault concerns.
    pub const fn node(&self) -> Option<u16> {
        match self {
            Self::Node { node, .. }
            | Self::Cut(Cut { from: Party::Node(node), .. } | Cut { to: Party::Node(node), .. }) => Some(*node),
            _ => None,
        }
    }
}

impl fmt::Display for Injury {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no fault"),
            Self::Node { node, fault } => write!(f, "{fault} of node {node}"),
            Self::OrchestratorKilled(Moment::Now) => f.write_str("kill of the orchestrator"),
            Self::OrchestratorKilled(moment) => write!(f, "kill of the orchestrator {}", moment.name()),
            Self::OrchestratorStopped => f.write_str("stop of the orchestrator"),
            Self::Cut(Cut { from, to, both: true }) => write!(f, "cut between {from} and {to}"),
            Self::Cut(Cut { from, to, both: false }) => write!(f, "cut from {from} to {to}"),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node}"),
            Self::Orchestrator => f.write_str("the orchestrator"),
        }
    }
}
