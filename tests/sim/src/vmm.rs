//! What a VMM keeps: own images, images for others, held frames, gates, tombstones. And its guest.

use crate::service::{Reply, Request, Session};
use escape_engine::node::RefuseApply;
use escape_proto::{BodyKind, ChainHash, CheckpointHead, CheckpointNo, Epoch, Flow, GroupId, SliceId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An image of a slice, own or for another node.
#[derive(Clone, Debug)]
pub struct Image {
    /// Group.
    pub group: GroupId,
    /// Connection.
    pub flow: Flow,
    /// Checkpoint.
    pub no: CheckpointNo,
    /// Chain hash.
    pub chain: ChainHash,
    /// Generation that it covers.
    pub generation: u64,
    /// Contents.
    pub state: Session,
    /// Body of the latest capture (own images).
    pub body: Vec<u8>,
    /// The latest capture was the last: CLOSE (own images).
    pub ended: bool,
}

/// A slice in the guest.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Group.
    pub group: GroupId,
    /// Connection.
    pub flow: Flow,
    /// State.
    pub state: Session,
    /// Generation of the slot word.
    pub generation: u64,
    /// A capture is on its way.
    pub capture_due: bool,
    /// It is to move: the guest leaves it alone.
    pub frozen: bool,
    /// And it is captured no more.
    pub rested: bool,
}

/// A frame in the valve.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Generation that must be covered.
    pub need: u64,
    /// When it was queued.
    pub since: u64,
    /// The frame.
    pub reply: Reply,
}

/// A group's gate.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Input that waits; bounded by [`Gate::QUEUE_MAX`], further packets are dropped (clients send again).
    pub queue: VecDeque<Request>,
    /// Slices whose input passes.
    pub open: BTreeSet<SliceId>,
    /// All input passes.
    pub all_open: bool,
}

impl Gate {
    /// Most packets that wait.
    pub const QUEUE_MAX: usize = 256;

    /// Keeps a packet until the gate opens.
    pub fn keep(&mut self, request: Request) {
        if self.queue.len() < Self::QUEUE_MAX {
            self.queue.push_back(request);
        }
    }
}

/// One VMM and its guest.
#[derive(Clone, Debug, Default)]
pub struct Vmm {
    /// Images of owned slices.
    pub own: BTreeMap<SliceId, Image>,
    /// Images held for others.
    pub standby: BTreeMap<SliceId, Image>,
    /// Held frames.
    pub valve: BTreeMap<SliceId, VecDeque<Held>>,
    /// Gates of owned groups, with the epoch at which each was closed.
    pub gates: BTreeMap<GroupId, (Epoch, Gate)>,
    /// Ends of closed connections.
    pub tombs: BTreeMap<Flow, Reply>,
    /// Mirrored input: the last packet of each flow.
    pub mirror: BTreeMap<Flow, Request>,
    /// Bodies that the engine has not decided about.
    pub bodies: BTreeMap<u64, Vec<u8>>,
    /// The guest's slices.
    pub guest: BTreeMap<SliceId, Running>,
    /// The guest runs, and how often it was started.
    pub guest_life: Option<u64>,
    /// Slots in use or not safe to use again.
    pub slots_taken: BTreeSet<u32>,
    /// Counter of incarnations per slot.
    pub slot_counters: BTreeMap<u32, u32>,
}

impl Vmm {
    /// Applies a checkpoint's body to the image held for its owner.
    pub fn apply(&mut self, head: &CheckpointHead, body: &[u8], reuse_slot: bool) -> Result<(), RefuseApply> {
        let have = self.standby.get(&head.slice);
        let at = have.map_or(CheckpointNo(0), |i| i.no);
        let before = have.map_or(ChainHash::START, |i| i.chain);
        match head.kind {
            BodyKind::Delta | BodyKind::Close if at != head.base => return Err(RefuseApply::WrongBase { have: at }),
            BodyKind::Create if at.0 != 0 && !reuse_slot => return Err(RefuseApply::WrongBase { have: at }),
            // Never back, as in the VMM: a copy on a channel of its own may come behind its successor.
            BodyKind::Full if at > head.no => return Err(RefuseApply::WrongBase { have: at }),
            BodyKind::Full => {}
            _ if before.next(body) != head.chain => return Err(RefuseApply::Corrupt("chain hash".to_owned())),
            _ => {}
        }
        let Some(state) = Session::decode(body) else { return Err(RefuseApply::Corrupt("body".to_owned())) };
        let image = Image {
            group: head.group,
            flow: head.flow,
            no: head.no,
            chain: head.chain,
            generation: head.generation,
            state,
            body: Vec::new(),
            ended: false,
        };
        self.standby.insert(head.slice, image);
        Ok(())
    }

    /// The best knowledge that this VMM has of a slice.
    pub fn knows(&self, slice: SliceId) -> Option<Session> {
        let own = self.own.get(&slice).map(|i| i.state);
        own.into_iter().chain(self.standby.get(&slice).map(|i| i.state)).max_by_key(|s| s.count)
    }

    /// The slice of the oldest held frame, and when it was queued.
    pub fn oldest_held(&self) -> Option<(SliceId, u64)> {
        let fronts = self.valve.iter().filter_map(|(slice, queue)| Some((*slice, queue.front()?.since)));
        fronts.min_by_key(|(_, since)| *since)
    }

    /// Keeps the images and what was mirrored for them.
    pub fn step_out(&mut self) {
        self.guest.clear();
        self.valve.clear();
        self.gates.clear();
        self.bodies.clear();
    }

    /// Forgets an owned slice.
    pub fn forget(&mut self, slice: SliceId) {
        self.own.remove(&slice);
        self.valve.remove(&slice);
        self.guest.remove(&slice);
    }
}
