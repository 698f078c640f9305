//! The promises that are checked (PROTOCOL.md, "Invariants").

/// Output commit: what left is where the record says that it is safe.
pub const I1: &str = "I1 output commit";
/// One owner per epoch, and no two different outputs (P2).
pub const I2: &str = "I2 one owner, one output";
/// Acknowledgements tell of what was sent.
pub const I3: &str = "I3 acknowledgements";
/// No slice is lost while an in-sync copy lives.
pub const I5: &str = "I5 no copy is given up";
/// Closed slices never come back.
pub const I9: &str = "I9 closed slices";
/// No packet reaches a guest before its gate.
pub const GATE: &str = "K gate before flow";
/// The mirror follows the record.
pub const MIRROR: &str = "T8 mirror";
/// A lease is free only when nothing lives in it; a slot has one live slice.
pub const LEASES: &str = "T10 leases";
/// A node is refused that may join.
pub const JOIN: &str = "T1 join";
/// An engine says what cannot be done.
pub const ENGINE: &str = "engine";
