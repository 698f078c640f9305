//! What a VMM keeps: own images, images for others, held frames, gates, tombstones. And its guest.

use super::session::Session;
use escape_engine::node::RefuseApply;
use escape_proto::{BodyKind, ChainHash, CheckpointHead, CheckpointNo, GroupId, SliceId};
use std::collections::{BTreeMap, BTreeSet};

/// An image of a slice, own or for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    /// Group.
    pub group: GroupId,
    /// Checkpoint.
    pub no: CheckpointNo,
    /// Chain hash.
    pub chain: ChainHash,
    /// Contents.
    pub state: Session,
    /// The latest capture was the last: CLOSE (own images).
    pub ended: bool,
}

/// A slice in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Running {
    /// Group.
    pub group: GroupId,
    /// State.
    pub state: Session,
    /// It is at rest, to be moved.
    pub frozen: bool,
}

/// A group's gate. What comes while it is closed is dropped: clients send again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gate {
    /// Slices whose input passes.
    pub open: BTreeSet<SliceId>,
    /// All input passes.
    pub all_open: bool,
}

/// One VMM and its guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vmm {
    /// Images of owned slices.
    pub own: BTreeMap<SliceId, Image>,
    /// Images held for others.
    pub standby: BTreeMap<SliceId, Image>,
    /// Held frames: the generation that each needs, and its contents.
    pub valve: BTreeMap<SliceId, Vec<Session>>,
    /// Gates of owned groups.
    pub gates: BTreeMap<GroupId, Gate>,
    /// Slices whose CLOSE is applied here.
    pub tombs: BTreeSet<SliceId>,
    /// The guest's slices.
    pub guest: BTreeMap<SliceId, Running>,
    /// Slots in use.
    pub slots_taken: BTreeSet<u32>,
    /// Counter of incarnations per slot.
    pub slot_counters: BTreeMap<u32, u32>,
}

impl Vmm {
    /// Applies a checkpoint to the image held for its owner.
    pub fn apply(&mut self, head: &CheckpointHead, state: Session, reuse_slot: bool) -> Result<(), RefuseApply> {
        let have = self.standby.get(&head.slice);
        let at = have.map_or(CheckpointNo(0), |i| i.no);
        let before = have.map_or(ChainHash::START, |i| i.chain);
        match head.kind {
            BodyKind::Delta | BodyKind::Close if at != head.base => return Err(RefuseApply::WrongBase { have: at }),
            BodyKind::Create if at.0 != 0 && !reuse_slot => return Err(RefuseApply::WrongBase { have: at }),
            // Never back, as in the VMM: a copy may come behind its successor.
            BodyKind::Full if at > head.no => return Err(RefuseApply::WrongBase { have: at }),
            BodyKind::Full => {}
            _ if state.chain(before) != head.chain => return Err(RefuseApply::Corrupt("chain hash".to_owned())),
            _ => {}
        }
        let image = Image { group: head.group, no: head.no, chain: head.chain, state, ended: false };
        self.standby.insert(head.slice, image);
        Ok(())
    }

    /// How far this VMM knows a slice; a slice whose end it knows is known to the end.
    pub fn knows(&self, slice: SliceId) -> Option<u8> {
        let images = [self.own.get(&slice), self.standby.get(&slice)];
        let image = images.into_iter().flatten().map(|i| i.state.count).max();
        let tomb = self.tombs.contains(&slice).then_some(u8::MAX);
        image.max(self.guest.get(&slice).map(|r| r.state.count)).max(tomb)
    }

    /// A life is over: the images stay, for the groups that the next life goes on with.
    pub fn step_out(&mut self) {
        self.guest.clear();
        self.valve.clear();
        self.gates.clear();
    }

    /// Nothing is left of a slice that this node owned.
    pub fn forget(&mut self, slice: SliceId) {
        self.own.remove(&slice);
        self.guest.remove(&slice);
        self.valve.remove(&slice);
        for gate in self.gates.values_mut() {
            gate.open.remove(&slice);
        }
    }
}
