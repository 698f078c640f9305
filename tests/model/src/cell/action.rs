//! One step.

use super::message::name;
use escape_proto::{GroupId, SliceId};
use std::fmt;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The first message on the way from one process to another arrives.
    Deliver(usize, usize),
    /// It is lost.
    Lose(usize, usize),
    /// It arrives, and will once more.
    Double(usize, usize),
    /// A client opens a session.
    Open(GroupId),
    /// A client asks, or closes.
    Ask(SliceId, bool),
    /// A client sends its last request again.
    Repeat(SliceId),
    /// A node finishes something that it has begun.
    Finish(usize, usize),
    /// The store has written, and the orchestrator hears of it.
    Write,
    /// The orchestrator and a standby suspect a node: it is declared dead.
    Condemn(usize),
    /// A node's process dies; what it has sent still arrives, or does not.
    Crash(usize, bool),
    /// A node's process starts.
    Start(usize),
    /// The link between two nodes breaks; what is on its way still arrives, or does not.
    Reset(usize, usize, bool),
    /// It is made.
    Connect(usize, usize),
    /// A node's link to the orchestrator breaks with all that is on its way, and is made again.
    ResetControl(usize),
    /// The orchestrator dies, its transaction on the way to the store written or not; another one starts.
    CrashOrchestrator(bool),
    /// The edge daemon dies; another one starts.
    CrashEdge,
    /// A guest dies.
    CrashGuest(usize),
    /// A guest runs again.
    StartGuest(usize),
    /// A node's timers run out.
    Tick(usize),
    /// A node says which leases it uses.
    Report(usize),
    /// Nobody brings a copy of an orphaned group in time.
    LoseHope,
    /// A node's loop has paused; it notices with the next event.
    Pause(usize),
    /// An operator moves a session that this node has.
    Move(usize, SliceId),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = |kept: bool| if kept { "what is on its way arrives" } else { "what is on its way is lost" };
        match *self {
            Self::Deliver(a, b) => write!(f, "{} → {}", name(a), name(b)),
            Self::Lose(a, b) => write!(f, "{} → {}, lost", name(a), name(b)),
            Self::Double(a, b) => write!(f, "{} → {}, and once more later", name(a), name(b)),
            Self::Open(group) => write!(f, "a client opens a session in group {group}"),
            Self::Ask(slice, false) => write!(f, "the client of slice {slice} asks"),
            Self::Ask(slice, true) => write!(f, "the client of slice {slice} closes"),
            Self::Repeat(slice) => write!(f, "the client of slice {slice} repeats"),
            Self::Finish(n, _) => write!(f, "node {n} has finished"),
            Self::Write => write!(f, "the store has written"),
            Self::Condemn(n) => write!(f, "node {n} is suspected by all"),
            Self::Crash(n, kept) => write!(f, "node {n} dies; {}", rest(kept)),
            Self::Start(n) => write!(f, "node {n} starts"),
            Self::Reset(a, b, kept) => write!(f, "the link of nodes {a} and {b} breaks; {}", rest(kept)),
            Self::Connect(a, b) => write!(f, "nodes {a} and {b} connect"),
            Self::ResetControl(n) => write!(f, "node {n} loses its link to the orchestrator and makes another"),
            Self::CrashOrchestrator(written) => {
                write!(f, "another orchestrator; the transaction {} written", if written { "is" } else { "is not" })
            }
            Self::CrashEdge => write!(f, "another edge daemon"),
            Self::CrashGuest(n) => write!(f, "the guest of node {n} dies"),
            Self::StartGuest(n) => write!(f, "the guest of node {n} runs again"),
            Self::Tick(n) => write!(f, "node {n}'s timers run out"),
            Self::Report(n) => write!(f, "node {n} says which leases it uses"),
            Self::LoseHope => write!(f, "nobody brings a copy in time"),
            Self::Move(n, slice) => write!(f, "slice {slice} is to move away from node {n}"),
            Self::Pause(n) => write!(f, "node {n} pauses"),
        }
    }
}
