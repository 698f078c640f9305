//! What a node is to do.

use super::event::RefuseApply;
use escape_proto::{
    Ack, CheckpointHead, CheckpointNo, Epoch, Flow, GroupId, GroupRecord, Member, MoveAnswer, Refusal, SliceId, Suspect,
};

/// A slice of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlugSlice {
    /// The slice.
    pub slice: SliceId,
    /// Its flow.
    pub flow: Flow,
    /// The checkpoint that its image is.
    pub no: CheckpointNo,
}

/// A command; the caller carries them out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send the checkpoint that was captured last for `head.slice` (the body is the caller's). Comes at once after its
    /// `Captured`; a CLOSE may come once more later, behind a full copy of the same number, even after [`Self::Closed`]:
    /// its body is not looked at then and may be empty. Frames of one slice to one receiver must stay in the order of the commands, so the
    /// checkpoints that follow a full copy go behind it on the same channel until it is acknowledged.
    Send {
        /// To whom (one, or both while DUAL).
        to: Member,
        /// Head.
        head: CheckpointHead,
    },
    /// Send a full copy of the own image of the slice, on the bulk channel if there is one.
    /// `head.kind` is Full, `head.no`, `head.chain`: the image's. While the link lives it must arrive, and be answered: a
    /// caller that cannot make the copy ends the link.
    SendFull {
        /// To whom.
        to: Member,
        /// Head.
        head: CheckpointHead,
    },
    /// Verify and apply the body to the image of `head.slice`; then report [`super::Event::Applied`].
    Apply {
        /// Sender.
        from: Member,
        /// Head.
        head: CheckpointHead,
        /// The body's name.
        body: u64,
    },
    /// The body is not wanted any more.
    DropBody {
        /// The body's name.
        body: u64,
    },
    /// Acknowledge. Always after the apply (never before: mutant "acknowledge before apply").
    SendAck {
        /// To whom.
        to: Member,
        /// What.
        ack: Ack,
    },
    /// Refuse.
    SendRefusal {
        /// To whom.
        to: Member,
        /// What and why.
        refusal: Refusal,
    },
    /// Ask the standby after a pause.
    SendProbe {
        /// To whom.
        to: Member,
        /// Group.
        group: GroupId,
        /// Epoch.
        epoch: Epoch,
        /// Nonce.
        nonce: u64,
    },
    /// Answer a probe.
    SendProbeReply {
        /// To whom.
        to: Member,
        /// Group.
        group: GroupId,
        /// This node's epoch of it.
        epoch: Epoch,
        /// Nonce.
        nonce: u64,
        /// Whether it stands by.
        standing_by: bool,
    },

    /// Frames of this slice that need at most `generation` may leave (I1): those held now. Given again, with the same
    /// generation, when a later checkpoint of an unchanged generation is committed.
    Release {
        /// Slice.
        slice: SliceId,
        /// Highest covered generation.
        generation: u64,
    },
    /// The slice's CLOSE is committed: after the release make the tombstone, free the image, give the slot back (T10).
    Closed {
        /// Group.
        group: GroupId,
        /// Slice.
        slice: SliceId,
    },
    /// Standby: the image's CLOSE was applied and acknowledged: image → tombstone.
    Entomb {
        /// Slice.
        slice: SliceId,
    },
    /// Free the image of a slice that this node neither owns nor stands by for (R6), own or not in a former life.
    FreeImage {
        /// Slice.
        slice: SliceId,
    },

    /// Change the record by compare-and-swap; report [`super::Event::Outcome`]. Sent again with the same attempt
    /// while the outcome is unknown (R1).
    Cas {
        /// Attempt.
        attempt: u64,
        /// The record wanted; expects `to.epoch` − 1.
        to: GroupRecord,
    },
    /// Read the record; report [`super::Event::Outcome`].
    Read {
        /// Attempt.
        attempt: u64,
        /// Group.
        group: GroupId,
    },

    /// T6, first step: freeze the images as they are and close the gate; report [`super::Event::GateClosed`].
    Activate {
        /// Group.
        group: GroupId,
        /// Epoch.
        epoch: Epoch,
        /// Slices with an image here.
        slices: Vec<PlugSlice>,
    },
    /// T6: ask the edge to flip (only after GateClosed); report [`super::Event::Flipped`]. Repeated while unanswered, and
    /// once at each later epoch of the same owner. An edge whose link is new is told [`super::NodeEngine::gated_groups`].
    RequestFlip {
        /// Group.
        group: GroupId,
        /// Epoch.
        epoch: Epoch,
    },
    /// T6: copy the images into the arena and plug them; report [`super::Event::Plugged`] each.
    Plug {
        /// Group.
        group: GroupId,
        /// Slices.
        slices: Vec<PlugSlice>,
    },
    /// T6: the slice runs: replay what the gate and the mirror kept, then let input through.
    OpenGate {
        /// Group.
        group: GroupId,
        /// Slice.
        slice: SliceId,
    },
    /// T6: all slices of the group are plugged or given up: new flows of the group may come in too.
    OpenGroup {
        /// Group.
        group: GroupId,
    },
    /// Forget these slices of the group in silence: held frames dropped, guest told to discard, no frame leaves. One
    /// when the guest refused its plug; all when the node is deposed (T7): then the engine does not own the group any more
    /// ([`super::NodeEngine::owns`]), and slices of the group that were never captured, which it does not know, go too.
    DropGroup {
        /// Group.
        group: GroupId,
        /// Slices.
        slices: Vec<SliceId>,
    },
    /// T7: the own node is Dead in the store. Drop held frames, bodies and gates, end all links, start the guest anew,
    /// and join anew. Images stay as they are, own ones too, until [`Self::FreeImage`] after the join: the new life may
    /// go on with some groups. A caller that cannot keep them starts over with a new engine and another memory.
    Rejoin,
    /// Capture this slice soon, output or not (a new standby needs its state, or a close must be committed).
    CaptureSoon {
        /// Slice.
        slice: SliceId,
    },
    /// T9: bring the slice to rest (no new reference in the guest, input dropped), capture what it is, and report
    /// [`super::Event::Frozen`]; captured no more until [`Self::Thaw`].
    Freeze {
        /// Group.
        group: GroupId,
        /// Slice.
        slice: SliceId,
    },
    /// T9: it does not move: it goes on here.
    Thaw {
        /// Slice.
        slice: SliceId,
    },
    /// T9: ask the store; report [`super::Event::MoveOutcome`]. Sent again with the same attempt while that is unknown (R1).
    RequestMove {
        /// Attempt.
        attempt: u64,
        /// Group.
        group: GroupId,
        /// Its epoch.
        epoch: Epoch,
        /// Slices.
        slices: Vec<SliceId>,
    },
    /// T9: the slice is another node's. Held frames are dropped, the guest is told to discard it, in silence; its own image
    /// stays, as an image for its new owner.
    HandOver {
        /// Slice.
        slice: SliceId,
        /// Its group from now on.
        to: GroupId,
    },
    /// T9: an image that is kept here for another node is of this group from now on.
    Regroup {
        /// Slice.
        slice: SliceId,
        /// Its group from now on.
        to: GroupId,
    },
    /// T9: tell the orchestrator that a move is put in order here. A record that waits for it is told again with all others.
    ReportMoved {
        /// The move's group.
        to: GroupId,
    },
    /// T9: what became of an operator's wish.
    AnswerMove {
        /// The wish's.
        request: u64,
        /// The answer.
        answer: MoveAnswer,
    },
    /// T11: tell the orchestrator that the guest is down, and which slices are suspected. Repeated until it is known.
    ReportGuestDown {
        /// This engine's number of the crash.
        crash: u64,
        /// How many slices were referenced when it died.
        referenced: u32,
        /// Those of them that have an image, as long as the store does not know them.
        suspects: Vec<Suspect>,
    },
    /// Tell the orchestrator that a slice was given up. Repeated until the store knows.
    ReportQuarantine {
        /// The slice and its group.
        suspect: Suspect,
        /// For people.
        cause: String,
    },
    /// Tell a standby (or who is becoming one) that a slice was given up.
    SendQuarantine {
        /// To whom.
        to: Member,
        /// Group.
        group: GroupId,
        /// Epoch.
        epoch: Epoch,
        /// Slice.
        slice: SliceId,
    },
    /// The slice was given up (T6), here or elsewhere: drop everything of it, and tell people.
    GiveUp {
        /// Group.
        group: GroupId,
        /// Slice.
        slice: SliceId,
        /// For people.
        cause: String,
    },
    /// A group is protected again after an activation (T3 done): slices in it.
    Protected {
        /// Group.
        group: GroupId,
        /// Epoch.
        epoch: Epoch,
        /// Slices.
        slices: u32,
    },
    /// The image and the owner disagree (hash in the acknowledgement): quarantine the slice and report it.
    Diverged {
        /// Slice.
        slice: SliceId,
        /// For people.
        detail: String,
    },
}

impl From<RefuseApply> for escape_proto::RefusalCause {
    fn from(r: RefuseApply) -> Self {
        match r {
            RefuseApply::WrongBase { have } => Self::NeedFull { have },
            RefuseApply::Corrupt(detail) => Self::Corrupt { detail },
            RefuseApply::NoRoom => Self::NoRoom,
        }
    }
}
