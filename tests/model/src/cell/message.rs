//! What is on its way between two processes.

use super::session::Session;
use escape_proto::{
    Ack, CheckpointHead, EdgeReply, EdgeRequest, FromOrchestrator, JoinRequest, Member, PeerMessage, Refusal,
    ToOrchestrator,
};

/// The orchestrator's place among the processes; nodes have 0, 1 and 2.
pub const ORCHESTRATOR: usize = 3;
/// The edge's place.
pub const EDGE: usize = 4;
/// Processes of the cell.
pub const PROCESSES: usize = 5;

/// A message. Between two processes messages stay in order; a connection that breaks loses some or all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// The replication link to this life of a node is up.
    Up(Member),
    /// It is gone; nothing of it follows.
    Down,
    /// A checkpoint and the state in its body.
    Checkpoint(CheckpointHead, Session),
    /// Acknowledged.
    Ack(Ack),
    /// Refused.
    Refusal(Refusal),
    /// A probe, or its answer.
    Probe(PeerMessage),
    /// A process wants to be a node: which life of the process.
    Join(u8, JoinRequest),
    /// Node → orchestrator.
    ToOrchestrator(Member, ToOrchestrator),
    /// Orchestrator → node, edge.
    FromOrchestrator(FromOrchestrator),
    /// Node → edge.
    ToEdge(Member, EdgeRequest),
    /// Edge → node.
    FromEdge(EdgeReply),
}

/// What is on its way in one direction.
pub type Queue = Vec<Message>;

/// A process for people.
pub fn name(process: usize) -> String {
    match process {
        ORCHESTRATOR => "orchestrator".to_owned(),
        EDGE => "edge".to_owned(),
        n => format!("node {n}"),
    }
}

impl Message {
    /// It may be lost or doubled alone; the ends of connections may not.
    pub const fn is_plain(&self) -> bool {
        !matches!(self, Self::Up(_) | Self::Down | Self::Join(..))
    }

    /// For people: one line.
    pub fn brief(&self) -> String {
        match self {
            Self::Up(member) => format!("the link to {member} is up"),
            Self::Down => "the link is gone".to_owned(),
            Self::Checkpoint(h, state) => format!(
                "{:?} {} of slice {} (group {}, epoch {}): {} served",
                h.kind, h.no, h.slice, h.group, h.epoch, state.count
            ),
            Self::Ack(a) => format!("checkpoint {} of slice {} acknowledged at epoch {}", a.no, a.slice, a.epoch),
            Self::Refusal(r) => format!("checkpoint {} of slice {} refused: {:?}", r.no, r.slice, r.cause),
            Self::Probe(p) => format!("{p:?}"),
            Self::Join(..) => "join".to_owned(),
            Self::ToOrchestrator(from, m) => format!("{m:?} from {from}"),
            Self::FromOrchestrator(FromOrchestrator::Records { nodes, groups, .. }) => {
                let nodes = nodes.iter().map(|n| format!("node {} {:?}", n.member, n.state));
                let groups = groups.iter().map(|g| {
                    let standby = g.standby.map(|s| format!(" standby {s}")).unwrap_or_default();
                    format!("group {} epoch {} {:?} owner {}{standby}", g.group, g.epoch, g.mode, g.owner)
                });
                format!("records: {}", nodes.chain(groups).collect::<Vec<_>>().join(", "))
            }
            Self::FromOrchestrator(m) => format!("{m:?}"),
            Self::ToEdge(from, m) => format!("{m:?} from {from}"),
            Self::FromEdge(m) => format!("{m:?}"),
        }
    }
}
