//! What happens to a node.

use escape_proto::{
    Ack, BodyKind, BucketTable, CasOutcome, ChainHash, CheckpointHead, CheckpointNo, Epoch, Flow, GroupId, GroupRecord,
    Member, MoveOutcome, MoveRecord, NodeId, NodeRecord, QuarantineRecord, Refusal, SliceId,
};

/// An event, in the order in which the node's thread saw them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The store gave this life (T1). Records follow.
    Joined {
        /// The life.
        me: Member,
        /// Groups of the former life that it goes on with (none after [`super::NodeEngine::new`]).
        claimed: Vec<GroupId>,
        /// Moves that the store knows: images of these slices are of other groups than this process remembers.
        moves: Vec<MoveRecord>,
    },
    /// Records as the orchestrator pushed them.
    Records {
        /// Nodes that changed.
        nodes: Vec<NodeRecord>,
        /// Groups that changed.
        groups: Vec<GroupRecord>,
        /// Suspects and slices that were given up.
        quarantine: Vec<QuarantineRecord>,
        /// Moves.
        moves: Vec<MoveRecord>,
        /// Placement, if it changed.
        buckets: Option<BucketTable>,
    },
    /// Outcome of [`super::Command::Cas`] or [`super::Command::Read`].
    Outcome {
        /// Which attempt.
        attempt: u64,
        /// Which group.
        group: GroupId,
        /// How it ended.
        outcome: CasOutcome,
    },
    /// An operator wants slices of one group moved to their standby, `to` if that is it (T9). Answered by
    /// [`super::Command::AnswerMove`].
    MoveAsked {
        /// To return.
        request: u64,
        /// The slices, at most [`MoveRecord::SLICES_MAX`].
        slices: Vec<SliceId>,
        /// Where to.
        to: Option<NodeId>,
    },
    /// After [`super::Command::Freeze`]: the slot is at rest, the guest takes no reference of it, and its state is what was
    /// captured last.
    Frozen {
        /// The group.
        group: GroupId,
        /// The slice.
        slice: SliceId,
    },
    /// Outcome of [`super::Command::RequestMove`].
    MoveOutcome {
        /// Which attempt.
        attempt: u64,
        /// The group that the slices were in.
        group: GroupId,
        /// How it ended.
        outcome: MoveOutcome,
    },
    /// The replication link to this life of a node is up (and nothing sent before is still under way).
    PeerUp(Member),
    /// It is gone. What was sent may or may not have arrived.
    PeerDown(Member),
    /// Full copies have used up their share of the link: no more of them to candidates before this time. What the
    /// recorded standby needs goes on, because clients wait for it.
    BulkPaused {
        /// Local time, microseconds.
        until: crate::Micros,
    },

    /// The VMM captured a slice: its state at `generation` is now in the own image as the next checkpoint.
    /// The engine numbers it, and says to whom it goes.
    Captured {
        /// Group that owns the slice.
        group: GroupId,
        /// The slice.
        slice: SliceId,
        /// Create for the first, Close for the last, else Delta (or Full if the VMM could not make a delta).
        kind: BodyKind,
        /// Generation that it covers.
        generation: u64,
        /// Next byte expected from the client.
        rcv_covered: u32,
        /// The connection.
        flow: Flow,
        /// Chain hash after it.
        chain: ChainHash,
    },
    /// A checkpoint arrived; its body waits at the caller until [`super::Command::Apply`] or `Refuse`.
    Checkpoint {
        /// Sender, as the link's handshake bound it.
        from: Member,
        /// Its head.
        head: CheckpointHead,
        /// Caller's name for the body.
        body: u64,
    },
    /// Outcome of [`super::Command::Apply`].
    Applied {
        /// Who sent it.
        from: Member,
        /// Its head.
        head: CheckpointHead,
        /// `Ok`: the image is now this checkpoint. `Err`: it is unchanged.
        result: Result<(), RefuseApply>,
    },
    /// An acknowledgement arrived.
    Acked {
        /// From whom.
        from: Member,
        /// What.
        ack: Ack,
    },
    /// A refusal arrived.
    Refused {
        /// From whom.
        from: Member,
        /// What and why.
        refusal: Refusal,
    },
    /// "Do you still stand by?"
    Probe {
        /// From whom.
        from: Member,
        /// Which group.
        group: GroupId,
        /// The asker's epoch.
        epoch: Epoch,
        /// To return.
        nonce: u64,
    },
    /// Answer to a probe.
    ProbeReply {
        /// From whom.
        from: Member,
        /// Which group.
        group: GroupId,
        /// The standby's epoch.
        epoch: Epoch,
        /// The probe's.
        nonce: u64,
        /// It still stands by.
        standing_by: bool,
    },

    /// The group's gate is closed and its images are frozen at this epoch (after [`super::Command::Activate`]).
    GateClosed {
        /// Group.
        group: GroupId,
        /// Epoch.
        epoch: Epoch,
    },
    /// The edge steers the group to this node at this epoch.
    Flipped {
        /// Group.
        group: GroupId,
        /// Epoch.
        epoch: Epoch,
    },
    /// A slice runs in the guest (`Ok`), or the guest refused it.
    Plugged {
        /// Group.
        group: GroupId,
        /// Slice.
        slice: SliceId,
        /// It runs.
        ok: bool,
    },
    /// The VMM gave the slice up (poisoned, lying, hanging): it is lost, alone.
    Quarantined {
        /// Group.
        group: GroupId,
        /// Slice.
        slice: SliceId,
        /// For people.
        cause: String,
    },
    /// The owner of a group has given up a slice of it.
    PeerQuarantined {
        /// From whom.
        from: Member,
        /// Which group.
        group: GroupId,
        /// The owner's epoch.
        epoch: Epoch,
        /// Which slice.
        slice: SliceId,
    },
    /// The guest crashed or hangs; the VMM goes on (T11). The caller has closed all gates: no input may reach the next
    /// guest before [`super::Command::OpenGate`] and [`super::Command::OpenGroup`].
    GuestDown {
        /// Slices that were referenced when it died.
        suspects: Vec<SliceId>,
    },
    /// The guest runs (again) and can take slices.
    GuestReady,
    /// Time passed. At least every few milliseconds.
    Tick,
}

/// Why a body was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefuseApply {
    /// The image is not at the head's base.
    WrongBase {
        /// What it is at; 0 = no image.
        have: CheckpointNo,
    },
    /// Body or chain hash is wrong.
    Corrupt(String),
    /// No room.
    NoRoom,
}
