//! What a drill does to a node, and which safeguard it may switch off to show that the drill would notice.

use std::fmt;

use clap::ValueEnum;

/// A fault of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// SIGKILL to the node's process: the machine is gone.
    Kill,
    /// SIGSTOP; SIGCONT when the cell is protected again: the old owner wakes up and believes it still owns.
    Stop,
    /// All links of the node are cut; restored when the cell is protected again.
    Link,
    /// The guest crashes, its VMM lives.
    Guest,
    /// The guest hangs in a loop, its VMM lives.
    Spin,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Link => "link",
            Self::Guest => "guest",
            Self::Spin => "spin",
        })
    }
}

/// A safeguard that is switched off, by the name that the machines know it. A drill with one of these must end with the verdict "fail".
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Break {
    /// Output leaves before the standby acknowledged the state behind it (P1).
    EarlyRelease,
    /// The standby acknowledges a checkpoint before it has applied it (P1).
    AckBeforeApply,
    /// Checkpoints and frames of an older epoch are accepted (P2).
    OldEpoch,
    /// The edge steers flows to the new owner before its gate is closed (P4).
    FlipBeforeGate,
    /// A new standby is recorded before it holds the state (P1).
    CasBeforeSync,
    /// The standby gets no copy of inbound frames (gap).
    NoMirror,
    /// A slot is used again without a new incarnation (P3).
    ReuseSlot,
}

impl Break {
    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EarlyRelease => "early-release",
            Self::AckBeforeApply => "ack-before-apply",
            Self::OldEpoch => "old-epoch",
            Self::FlipBeforeGate => "flip-before-gate",
            Self::CasBeforeSync => "cas-before-sync",
            Self::NoMirror => "no-mirror",
            Self::ReuseSlot => "reuse-slot",
        }
    }
}
