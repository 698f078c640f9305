//! Deliberate faults: the tests must find every one of them (PROTOCOL.md, finding 12).

use std::fmt;
use std::str::FromStr;

/// One deliberate fault. A machine that is given one breaks exactly the rule named here and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mutant {
    /// Node, owner: release when the checkpoint is sent, not when it is acknowledged (I1).
    EarlyRelease,
    /// Node, standby: acknowledge when the checkpoint arrives, not when it is applied (I1).
    AckBeforeApply,
    /// Node, standby: no fence; older epochs are applied and acknowledged too (I2, finding 1).
    OldEpoch,
    /// Node and edge: steer flows to a new owner before its gate is closed (finding 9).
    FlipBeforeGate,
    /// Node, owner: record the candidate as standby before it is synced (finding 2).
    CasBeforeSync,
    /// Edge: never mirror input to the standby.
    NoMirror,
    /// Node, standby: a slot's incarnation is not looked at.
    ReuseSlot,
    /// Node, owner: go on alone when the standby dies, without changing the record (finding 2).
    SoloWithoutCas,
    /// Orchestrator: promote a standby without comparing its incarnation.
    PromoteAmnesiac,
    /// Orchestrator: a node that joins anew keeps the groups of its former life, which it has forgotten.
    OwnerAmnesia,
    /// Node: acknowledgements are bound to a node, not to its incarnation; and a node without a record accepts.
    StandbyAmnesia,
    /// Node, new owner: the images are frozen, yet the epoch before is still acknowledged (finding 2).
    FrozenAtCas,
    /// Node, owner: release on the old set's acknowledgement while a standby change is in flight (finding 2).
    OldSetAlone,
    /// Store: a restart forgets the latest transactions, so epochs come twice.
    EpochReused,
    /// Node: a process that starts over says that it remembers its former life (R8).
    ClaimWithoutMemory,
    /// Orchestrator: a Draining lease is Free as soon as one node holds nothing in it (T10).
    LeaseFreedEarly,
    /// Node: a slice that was given up is plugged like any other (T6).
    QuarantineForgotten,
    /// Node, owner: ask for the move before the standby has acknowledged all of the slice (T9).
    MoveWithoutDrain,
    /// Node: the records of moves are not looked at (T9).
    MovesIgnored,
}

/// Not the name of a deliberate fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no deliberate fault is called {0:?}; there are: {names}", names = Mutant::ALL.map(Mutant::name).join(", "))]
pub struct UnknownMutant(pub String);

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::EarlyRelease,
        Self::AckBeforeApply,
        Self::OldEpoch,
        Self::FlipBeforeGate,
        Self::CasBeforeSync,
        Self::NoMirror,
        Self::ReuseSlot,
        Self::SoloWithoutCas,
        Self::PromoteAmnesiac,
        Self::OwnerAmnesia,
        Self::StandbyAmnesia,
        Self::FrozenAtCas,
        Self::OldSetAlone,
        Self::EpochReused,
        Self::ClaimWithoutMemory,
        Self::LeaseFreedEarly,
        Self::QuarantineForgotten,
        Self::MoveWithoutDrain,
        Self::MovesIgnored,
    ];

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
            Self::SoloWithoutCas => "solo-without-cas",
            Self::PromoteAmnesiac => "promote-amnesiac",
            Self::OwnerAmnesia => "owner-amnesia",
            Self::StandbyAmnesia => "standby-amnesia",
            Self::FrozenAtCas => "frozen-at-cas",
            Self::OldSetAlone => "old-set-alone",
            Self::EpochReused => "epoch-reused",
            Self::ClaimWithoutMemory => "claim-without-memory",
            Self::LeaseFreedEarly => "lease-freed-early",
            Self::QuarantineForgotten => "quarantine-forgotten",
            Self::MoveWithoutDrain => "move-without-drain",
            Self::MovesIgnored => "moves-ignored",
        }
    }
}

impl FromStr for Mutant {
    type Err = UnknownMutant;
    fn from_str(s: &str) -> Result<Self, UnknownMutant> {
        Self::ALL.into_iter().find(|m| m.name() == s).ok_or_else(|| UnknownMutant(s.to_owned()))
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for m in Mutant::ALL {
            assert_eq!(m.name().parse(), Ok(m));
        }
        let wrong: Result<Mutant, _> = "late-release".parse();
        assert!(wrong.is_err_and(|e| e.to_string().contains("early-release")));
    }
}
