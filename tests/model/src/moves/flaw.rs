//! Deliberate faults in the design of moves.

use std::fmt;

/// One rule of T9 left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// The source hands the slice over without a record in the store.
    MoveWithoutRecord,
    /// The record is written before the last delta is acknowledged by the target and its standby.
    NoDrain,
    /// The compare-and-swap does not look at the target's group.
    TargetNotCompared,
    /// The compare-and-swap does not look at the source's group.
    SourceNotCompared,
    /// A deposed source's copy replaces that of its successor at the target (R9).
    PresyncNotFenced,
    /// A promoted standby activates what has been moved away.
    MovesIgnored,
    /// The record is deleted before all old copies are purged.
    DeletedEarly,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::MoveWithoutRecord,
        Self::NoDrain,
        Self::TargetNotCompared,
        Self::SourceNotCompared,
        Self::PresyncNotFenced,
        Self::MovesIgnored,
        Self::DeletedEarly,
    ];

    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MoveWithoutRecord => "move-without-record",
            Self::NoDrain => "move-without-drain",
            Self::TargetNotCompared => "move-target-not-compared",
            Self::SourceNotCompared => "move-source-not-compared",
            Self::PresyncNotFenced => "move-presync-not-fenced",
            Self::MovesIgnored => "moves-ignored",
            Self::DeletedEarly => "move-deleted-early",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
