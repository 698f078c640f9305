//! What a valve is told when it is made.

use super::coverage::{Breach, Coverage};
use super::protected_ports::ProtectedPorts;
use super::quota::HoldLimits;
use super::segment::Segment;

/// Whether output is held at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Output is held until commit.
    Protect,
    /// Replication is off: every frame may be sent at once. For benchmarks and for `boot` without a cluster.
    PassThrough,
}

/// When a commit covers a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// By its generation: the slice's TCP state is in its slot, so a frame that contradicts the committed numbers is a breach.
    #[default]
    Generation,
    /// By its generation and its numbers: the guest's kernel has the TCP state. It acknowledges bytes before the program has read
    /// them, so a frame waits until the committed state has what it acknowledges and what it carries.
    Numbers,
}

impl Rule {
    /// Whether a frame's numbers lie behind what is committed.
    pub(super) fn check(self, committed: &Coverage, segment: &Segment) -> Result<(), Breach> {
        match self {
            Self::Generation => committed.check(segment),
            Self::Numbers => committed.check_kernels(segment),
        }
    }
}

/// What to do when a frame contradicts the committed state (invariant I1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreachPolicy {
    /// Drop the slice's frames, quarantine it, count.
    Quarantine,
    /// Panic: for tests, where a breach is a fault of the program.
    Panic,
}

/// What a valve needs to know.
#[derive(Clone, Debug)]
pub struct ValveConfig {
    /// Slots of the cell.
    pub n_slots: u32,
    /// The service's address; TCP from any other is spoofed.
    pub service_ip: [u8; 4],
    /// Ports whose connections are slices.
    pub protected_ports: ProtectedPorts,
    /// Let output leave that belongs to no protected port (ARP included). Off by default: it is unprotected.
    pub unprotected_output: bool,
    /// Whether output is held.
    pub mode: Mode,
    /// How much may be held.
    pub limits: HoldLimits,
    /// When a commit covers a frame.
    pub rule: Rule,
    /// What to do about a breach.
    pub on_breach: BreachPolicy,
}
