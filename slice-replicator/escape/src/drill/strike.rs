//! One `[[faults]]` of a drill file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::place::Place;
use super::then::Then;

/// What happens, where, for how long, and what is awaited before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Strike {
    /// What happens.
    pub kind: FaultKind,
    /// Where.
    pub node: Place,
    /// The other end of a cut link.
    pub peer: Place,
    /// Which frames a cut loses.
    pub direction: Direction,
    /// When exactly the orchestrator is killed.
    pub at: Moment,
    /// How long it lasts, milliseconds. A node's fault lasts at least so long.
    pub lasts_ms: u64,
    /// When a node's fault is over.
    pub heal: Heal,
    /// What is awaited before the next.
    pub then: Then,
}

impl Default for Strike {
    fn default() -> Self {
        Self {
            kind: FaultKind::Kill,
            node: Place::Serving,
            peer: Place::Standby,
            direction: Direction::Both,
            at: Moment::Now,
            lasts_ms: 0,
            heal: Heal::Protected,
            then: Then::Protected,
        }
    }
}

impl Strike {
    /// A fault of a random node that serves sessions, as `escape drill` makes it.
    pub fn of_serving(fault: Fault) -> Self {
        // A stopped node must have time to lose its connections before it wakes up.
        let lasts_ms = if fault == Fault::Stop { 3_000 } else { 0 };
        Self { kind: fault.into(), lasts_ms, ..Self::default() }
    }

    /// How long it lasts, at least.
    pub fn lasts(&self) -> Duration {
        Duration::from_millis(self.lasts_ms)
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Nothing, for `lasts_ms`.
    None,
    /// SIGKILL to the process.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Stop,
    /// All links of the node are cut.
    Link,
    /// The guest crashes, its VMM lives.
    Guest,
    /// The guest hangs in a loop, its VMM lives.
    Spin,
    /// The link between `node` and `peer` is cut, for control and checkpoints; their clients' frames pass.
    Cut,
}

impl FaultKind {
    /// The fault of a node that it is, if it is one.
    pub const fn of_node(self) -> Option<Fault> {
        match self {
            Self::Kill => Some(Fault::Kill),
            Self::Stop => Some(Fault::Stop),
            Self::Link => Some(Fault::Link),
            Self::Guest => Some(Fault::Guest),
            Self::Spin => Some(Fault::Spin),
            Self::None | Self::Cut => None,
        }
    }
}

impl From<Fault> for FaultKind {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Kill => Self::Kill,
            Fault::Stop => Self::Stop,
            Fault::Link => Self::Link,
            Fault::Guest => Self::Guest,
            Fault::Spin => Self::Spin,
        }
    }
}

/// When a node's fault is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heal {
    /// Once the cell is protected without it.
    Protected,
    /// After `lasts_ms`, whatever the cell is like.
    InTime,
}

/// Which frames a cut loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// All.
    Both,
    /// Those to the peer.
    ToPeer,
    /// Those from the peer.
    FromPeer,
}

/// When the orchestrator is killed, where an event that is seen outside would come too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// At once.
    Now,
    /// It has decided that a node is dead, and the store does not know it.
    BeforeTransaction,
    /// The store knows it, and nobody was told.
    AfterTransaction,
}

impl Moment {
    /// Its name, as the orchestrator knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::BeforeTransaction => "before-transaction",
            Self::AfterTransaction => "after-transaction",
        }
    }
}
