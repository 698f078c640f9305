//! What the processes of a cell say to each other: identities, records, and the messages of each link.
//!
//! Depends on nothing else of the project. Every message is bounded by [`FRAME_MAX`] and decoded by [`decode`], which
//! never panics and never allocates more than the bytes that it was given justify.
#![forbid(unsafe_code)]

mod checkpoint;
mod codec;
mod edge;
mod heartbeat;
mod hello;
mod ids;
mod lease;
mod operator;
mod orchestrator;
mod peer;
mod placement;
mod record;
mod status;

pub use checkpoint::{Ack, Body, BodyKind, CheckpointHead, Refusal, RefusalCause};
pub use codec::{CodecError, FRAME_MAX, decode, encode, encode_into};
pub use edge::{EdgeReply, EdgeRequest, FlowEntry};
pub use heartbeat::{Beat, BeatError};
pub use hello::{Hello, HelloReply, PROTOCOL_VERSION, Role};
pub use ids::{ChainHash, CheckpointNo, Epoch, Flow, GroupId, Incarnation, LeaseId, Member, NodeId, Revision, SliceId};
pub use lease::{LeaseReport, LeaseSet, records_mark};
pub use operator::{MoveAnswer, MoveWhat, OperatorReply, OperatorRequest};
pub use orchestrator::{
    CasOutcome, FromOrchestrator, GroupSlices, JoinReply, JoinRequest, Milestone, MoveOutcome, SliceCounts,
    ToOrchestrator,
};
pub use peer::PeerMessage;
pub use placement::BucketTable;
pub use record::{
    GroupRecord, LeaseRecord, LeaseState, Mode, MoveRecord, NodeRecord, NodeState, QuarantineRecord, Suspect,
};
pub use status::{CellStatus, FailoverCause, FailoverStatus, GroupStatus, NodeStatus};
