//! Records, copies and the one slice that moves.

use crate::report::Broken;

/// Nodes.
pub const NODES: usize = 3;
/// The group that the slice moves out of, and the one that it moves into.
pub const FROM: usize = 0;
/// See [`FROM`].
pub const INTO: usize = 1;
/// Requests that the client sends in all.
pub const REQUESTS_MAX: u8 = 3;

/// `group/<g>`; a node is one life here, a dead one does not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Raised by every change.
    pub epoch: u8,
    /// Owner; `None`: the group is lost.
    pub owner: Option<u8>,
    /// Standby; `None`: Solo.
    pub standby: Option<u8>,
}

/// `move/<slice>`: the epochs at which both groups were when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MoveRecord {
    /// Epoch of the group left.
    pub from: u8,
    /// Epoch of the group joined.
    pub into: u8,
}

/// A copy of the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Requests served.
    pub count: u8,
    /// Who served them: base 4, node + 1.
    pub served_by: u16,
    /// The slice is a member of the group (not only on its way into it).
    pub member: bool,
    /// On its way into the group: epoch of the group left, as the sender knew it. 0 for members.
    pub source_epoch: u8,
}

/// How far the source is with the move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing was begun.
    #[default]
    Idle,
    /// The target and its standby get copies; requests go on.
    Syncing,
    /// The slice rests; its last state is on its way to both.
    Drained,
    /// The record is being written.
    Asked,
}

/// A node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// It runs. One that has learned of its death is nobody.
    pub alive: bool,
    /// The records as it has seen them.
    pub seen: [Record; 2],
    /// Copies of the slice, per group.
    pub copies: [Option<Copy>; 2],
    /// The group as a member of which the slice runs in its guest.
    pub runs: Option<u8>,
    /// How far it is with the move.
    pub phase: Phase,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Nodes.
    pub nodes: [Node; NODES],
    /// Up in the store.
    pub up: [bool; NODES],
    /// `group/*` in the store.
    pub records: [Record; 2],
    /// `move/*` in the store.
    pub moved: Option<MoveRecord>,
    /// Compare-and-swap of the move on its way.
    pub asked: Option<MoveRecord>,
    /// What left: who had served, by request.
    pub released: [Option<u16>; REQUESTS_MAX as usize + 1],
    /// The session's end is committed.
    pub closed: bool,
    /// The move was written once; there is no second one.
    pub done: bool,
    /// Nodes that may still die.
    pub crashes: u8,
    /// Nodes that may still be declared dead although they live.
    pub false_deaths: u8,
    /// The first broken promise.
    pub broken: Option<Broken>,
}

impl Copy {
    /// As it is sent to the target and its standby by a source that knows this epoch of its group.
    pub const fn on_its_way(self, source_epoch: u8) -> Self {
        Self { member: false, source_epoch, ..self }
    }

    /// It belongs to the group now.
    pub const fn enter(&mut self) {
        self.member = true;
        self.source_epoch = 0;
    }

    /// After the next request, served by this node.
    pub const fn serve(self, node: u8) -> Self {
        Self { count: self.count + 1, served_by: self.served_by * 4 + node as u16 + 1, ..self }
    }
}

impl State {
    /// Both groups paired, the slice in the first, with one request served, replicated and answered.
    pub fn start(standbys: [u8; 2]) -> Self {
        let record = |g: usize| Record { epoch: 1, owner: Some(g as u8), standby: Some(standbys[g]) };
        let records = [record(0), record(1)];
        let copy = Copy { count: 0, served_by: 0, member: true, source_epoch: 0 }.serve(0);
        let node = |n: usize| Node {
            alive: true,
            seen: records,
            copies: [(n == 0 || n == usize::from(standbys[0])).then_some(copy), None],
            runs: (n == 0).then_some(FROM as u8),
            phase: Phase::Idle,
        };
        Self {
            nodes: [node(0), node(1), node(2)],
            up: [true; NODES],
            records,
            moved: None,
            asked: None,
            released: [None, Some(copy.served_by), None, None],
            closed: false,
            done: false,
            crashes: 2,
            false_deaths: 1,
            broken: None,
        }
    }

    /// The newest output that left.
    pub fn newest(&self) -> u8 {
        self.released.iter().rposition(Option::is_some).map_or(0, |n| n as u8)
    }

    /// Notes a broken promise; the first one counts.
    pub fn violate(&mut self, promise: &'static str, detail: String) {
        self.broken.get_or_insert(Broken { promise, detail });
    }
}
