//! What a line of the table says.

use crate::table::Metric;

/// A process of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A node.
    Node,
    /// The orchestrator.
    Orchestrator,
    /// The edge.
    Edge,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Orchestrator, Self::Edge, Self::Node];

    /// Its subcommand.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Orchestrator => "orchestrator",
            Self::Edge => "edge",
        }
    }
}

/// How a value behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and begins anew with the process.
    Counter,
    /// It is what it is now.
    Gauge,
}

impl Kind {
    /// As Prometheus calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Which.
    pub metric: Metric,
    /// Who tells it.
    pub parts: &'static [Part],
    /// How it behaves.
    pub kind: Kind,
    /// Its name, with its unit.
    pub name: &'static str,
    /// The label that tells its series apart, if it has several.
    pub label: Option<&'static str>,
    /// What it is.
    pub help: &'static str,
}
