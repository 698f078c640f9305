//! What the drill wants of a cell. The cell under test implements it with processes and namespaces; the tests of the
//! drill itself implement it with a thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::injury::Cut;
use super::strike::Moment;
use super::timeline::TimelineEvent;
use crate::load::Enter;

/// A cell that can be hurt.
pub trait Cell {
    /// Waits until every node runs, every group is protected and the service answers.
    fn wait_ready(&mut self, limit: Duration) -> Result<(), CellError>;

    /// Frames that `node`'s valve holds at this moment; 0 if that cannot be learned.
    fn held_frames(&mut self, node: u16) -> u64;

    /// Makes `fault` happen to `node`. Returns the last instant at which the node was certainly well.
    fn inject(&mut self, node: u16, fault: Fault) -> Result<Instant, CellError>;

    /// Ends what `inject` began: SIGCONT, links up, or a new process for the node.
    fn heal(&mut self, node: u16, fault: Fault) -> Result<(), CellError>;

    /// Number of nodes.
    fn nodes(&self) -> u16;

    /// The nodes that stand by for groups of `node`, those with the most groups first.
    fn standbys_of(&mut self, node: u16) -> Result<Vec<u16>, CellError> {
        let _ = node;
        Err(CellError::Cannot("tell who stands by for a node"))
    }

    /// Tells the orchestrator to end itself at `moment` of the next node's death: what is seen of it outside comes too
    /// late for such a moment.
    fn arm_orchestrator(&mut self, moment: Moment) -> Result<(), CellError> {
        let _ = moment;
        Err(CellError::Cannot("arm its orchestrator"))
    }

    /// Kills the orchestrator, or waits for its end at `moment` if that is not now. Returns when it lived last.
    fn kill_orchestrator(&mut self, moment: Moment) -> Result<Instant, CellError> {
        let _ = moment;
        Err(CellError::Cannot("kill its orchestrator"))
    }

    /// Stops the orchestrator.
    fn stop_orchestrator(&mut self) -> Result<Instant, CellError> {
        Err(CellError::Cannot("stop its orchestrator"))
    }

    /// Starts a new orchestrator on the same store, or has the stopped one go on.
    fn heal_orchestrator(&mut self) -> Result<(), CellError> {
        Err(CellError::Cannot("heal its orchestrator"))
    }

    /// Loses frames of the control network from here on.
    fn cut(&mut self, cut: Cut) -> Result<Instant, CellError> {
        let _ = cut;
        Err(CellError::Cannot("cut single links"))
    }

    /// Ends what `cut` began.
    fn mend(&mut self, cut: Cut) -> Result<(), CellError> {
        let _ = cut;
        Err(CellError::Cannot("mend single links"))
    }

    /// What befell nodes and groups since the cell started, in any order.
    fn mishaps(&mut self) -> Vec<Mishap> {
        Vec::new()
    }

    /// The group of every session's flow, by the client's address.
    fn groups_of_clients(&mut self) -> Result<Vec<(SocketAddr, u64)>, CellError> {
        Err(CellError::Cannot("tell the groups of flows"))
    }

    /// Everything noticed since the cell started, in any order. The drill takes what lies after its fault.
    fn timeline(&mut self) -> Vec<TimelineEvent>;

    /// Frames of an old owner that passed the fabric after the flip, since the cell started. Must stay 0.
    fn zombie_frames(&mut self) -> u64;

    /// Frames that were steered to a new owner before its gate was closed, since the cell started. Must stay 0.
    fn early_frames(&mut self) -> u64 {
        0
    }

    /// Waits until every slice has a standby again.
    fn wait_reprotected(&mut self, limit: Duration) -> Result<Reprotection, CellError>;

    /// What the parts of the cell know of a client's connection, a line each: for people who look for a fault.
    fn tell_of_client(&mut self, client: SocketAddr) -> Vec<String> {
        let _ = client;
        Vec::new()
    }

    /// Makes the calling thread one that lives in the clients' network namespace.
    fn client_namespace(&self) -> Enter;

    /// Addresses that clients have there, to share out among the sessions; fewer than two: the kernel chooses.
    fn client_addresses(&self) -> Vec<Ipv4Addr> {
        Vec::new()
    }

    /// Where the service listens, seen from the clients.
    fn service(&self) -> ServiceAddresses;

    /// Ends everything that was started. Called once, also after an error.
    fn shutdown(&mut self);
}

/// The two ports of the session service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceAddresses {
    /// The HTTP session server.
    pub http: SocketAddr,
    /// The checked byte stream.
    pub stream: SocketAddr,
}

/// Something that befell a part of the cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mishap {
    /// When.
    pub at: Instant,
    /// What.
    pub what: MishapKind,
}

/// What can befall a part of the cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MishapKind {
    /// A group that no copy was left of in the cell goes on: a process that was declared dead has come back with it.
    Claimed(u64),
    /// The node with this number was declared dead.
    Dead(u16),
    /// No copy is left of the group with this number.
    Lost(u64),
    /// A node gave up one slice.
    Quarantined {
        /// Which node.
        node: u16,
        /// Why.
        cause: String,
    },
}

/// The cell is protected again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reprotection {
    /// Slices that got a new standby.
    pub slices: u64,
    /// When the last of them was protected.
    pub at: Instant,
    /// Longest time that a slice rested on a single copy.
    pub unprotected: Duration,
}

/// Why the cell could not do what the drill asked. This is not a broken promise: the drill ends without a verdict.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// It took too long.
    #[error("the cell: {what} took longer than {limit:?}{hint}")]
    TooSlow {
        /// What was waited for.
        what: String,
        /// The limit.
        limit: Duration,
        /// What was seen instead, with a separator; may be empty.
        hint: String,
    },
    /// A call to the kernel failed.
    #[error("the cell: {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// This kind of cell is not able to do it.
    #[error("this cell cannot {0}")]
    Cannot(&'static str),
    /// This machine lacks something.
    #[error("this machine cannot run the cell: {0} (escape doctor says more)")]
    Environment(String),
    /// Anything else, in words.
    #[error("the cell: {0}")]
    Other(String),
}
