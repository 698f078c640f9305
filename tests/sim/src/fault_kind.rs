//! The kinds of faults (PROTOCOL.md, event matrix, column D).

/// A kind of fault. Each run has its own mix of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A node's process dies and starts over with nothing.
    NodeCrash,
    /// Two nodes die within a millisecond: often an owner and its standby.
    TwoNodesCrash,
    /// A node's guest dies; its VMM goes on.
    GuestCrash,
    /// A node's process stands still, its heartbeats too.
    NodePause,
    /// A node's data thread stands still, its heartbeats go on.
    NodeHang,
    /// A node is cut off: from everybody, from the control side or from its peers, both ways or one.
    NodeIsolated,
    /// A connection breaks.
    LinkReset,
    /// Nothing passes between two processes.
    LinkCut,
    /// Nothing passes between two processes in one direction (a checkpoint arrives, its acknowledgement does not).
    LinkCutOneWay,
    /// A link has up to 20 ms more of delay.
    LinkSlow,
    /// A link between two nodes has 100 to 400 ms more of delay: a grey standby, which must be replaced.
    StandbyGrey,
    /// The store does not answer; what it was asked may have been done.
    StoreAway,
    /// The orchestrator's process dies.
    OrchestratorCrash,
    /// The orchestrator's process stands still.
    OrchestratorPause,
    /// The edge's process dies; the fabric goes on as it is.
    EdgeCrash,
    /// A node's VMM gives a slice up.
    SliceGivenUp,
    /// The clock of a process jumps by up to an hour. Forwards: it is CLOCK_MONOTONIC, which never goes back.
    ClockJump,
    /// No fault: an operator moves sessions to their standby. Among the faults, because it must hold in the midst of them.
    SliceMoved,
}

impl FaultKind {
    /// How many there are.
    pub const COUNT: usize = 18;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::NodeCrash,
        Self::TwoNodesCrash,
        Self::GuestCrash,
        Self::NodePause,
        Self::NodeHang,
        Self::NodeIsolated,
        Self::LinkReset,
        Self::LinkCut,
        Self::LinkCutOneWay,
        Self::LinkSlow,
        Self::StandbyGrey,
        Self::StoreAway,
        Self::OrchestratorCrash,
        Self::OrchestratorPause,
        Self::EdgeCrash,
        Self::SliceGivenUp,
        Self::ClockJump,
        Self::SliceMoved,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeCrash => "node-crash",
            Self::TwoNodesCrash => "two-nodes-crash",
            Self::GuestCrash => "guest-crash",
            Self::NodePause => "node-pause",
            Self::NodeHang => "node-hang",
            Self::NodeIsolated => "node-isolated",
            Self::LinkReset => "link-reset",
            Self::LinkCut => "link-cut",
            Self::LinkCutOneWay => "link-cut-one-way",
            Self::LinkSlow => "link-slow",
            Self::StandbyGrey => "standby-grey",
            Self::StoreAway => "store-away",
            Self::OrchestratorCrash => "orchestrator-crash",
            Self::OrchestratorPause => "orchestrator-pause",
            Self::EdgeCrash => "edge-crash",
            Self::SliceGivenUp => "slice-given-up",
            Self::ClockJump => "clock-jump",
            Self::SliceMoved => "slice-moved",
        }
    }
}
