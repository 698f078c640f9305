//! T6: from images to running slices, in small steps so that other slices' commits go on.

use crate::groups::Access;
use crate::inbound::vmm_flow;
use crate::node::Node;
use crate::outbound::vmm_slice;
use crate::slice_table::{OwnedSlice, Stage};
use escape_abi::HostMessage;
use escape_engine::node::{Event, PlugSlice};
use escape_proto::{Epoch, Flow, GroupId, Milestone, SliceId};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Longest stretch of plugging per turn, microseconds.
const STEP_US: u64 = 200;

/// A client that sent something this long ago may still wait for its answer, microseconds: the time that a failover
/// takes, and a little more.
const ACTIVE_US: u64 = 64_000;

/// Activations under way. Slices whose clients wait are plugged first.
#[derive(Debug, Default)]
pub struct Activations {
    /// Slices to plug. Bounded by the images that this node has.
    plugs: HashMap<SliceId, Plug>,
    /// Slices in `plugs` whose clients wait, in order; each at most once.
    urgent: VecDeque<SliceId>,
    /// Slices of `plugs` in order, and some that were plugged as urgent meanwhile; each at most once.
    others: VecDeque<SliceId>,
    groups: BTreeMap<GroupId, Progress>,
}

#[derive(Clone, Copy, Debug)]
struct Plug {
    group: GroupId,
    plug: PlugSlice,
    urgent: bool,
}

#[derive(Debug)]
struct Progress {
    epoch: Epoch,
    slices: usize,
    done: usize,
}

impl Activations {
    /// A group's gate was closed; so many slices are to be plugged.
    pub fn begin(&mut self, group: GroupId, epoch: Epoch, slices: usize) {
        self.groups.insert(group, Progress { epoch, slices, done: 0 });
    }

    /// A slice to plug.
    pub fn queue(&mut self, group: GroupId, plug: PlugSlice, urgent: bool) {
        let slice = plug.slice;
        if self.plugs.insert(slice, Plug { group, plug, urgent }).is_none() {
            if urgent { self.urgent.push_back(slice) } else { self.others.push_back(slice) }
        }
    }

    /// Its client sent something and waits: the slice's turn comes before those of idle ones.
    pub fn hurry(&mut self, slice: SliceId) {
        if let Some(plug) = self.plugs.get_mut(&slice).filter(|p| !p.urgent) {
            plug.urgent = true;
            self.urgent.push_back(slice);
        }
    }

    /// The next slice to plug.
    fn next(&mut self) -> Option<(GroupId, PlugSlice)> {
        while let Some(slice) = self.urgent.pop_front().or_else(|| self.others.pop_front()) {
            if let Some(Plug { group, plug, .. }) = self.plugs.remove(&slice) {
                return Some((group, plug));
            }
        }
        None
    }

    /// The group is not this node's any more.
    pub fn cancel(&mut self, group: GroupId) {
        let Self { plugs, urgent, others, .. } = self;
        plugs.retain(|_, p| p.group != group);
        urgent.retain(|slice| plugs.contains_key(slice));
        others.retain(|slice| plugs.contains_key(slice));
        self.groups.remove(&group);
    }

    /// Slices wait for their plug.
    pub fn has_work(&self) -> bool {
        !self.plugs.is_empty()
    }

    /// A slice runs. The milestone, if it is the first or the last of its group.
    fn plugged(&mut self, group: GroupId) -> Option<Milestone> {
        let progress = self.groups.get_mut(&group)?;
        progress.done += 1;
        if progress.done == progress.slices {
            Some(Milestone::LastPlugged(group, progress.epoch, u32::try_from(progress.done).unwrap_or(u32::MAX)))
        } else if progress.done == 1 {
            Some(Milestone::FirstPlugged(group, progress.epoch))
        } else {
            None
        }
    }
}

impl Node {
    /// Slices of a group are to be plugged: those first whose clients wait, by what the mirror saw of them.
    pub(crate) fn queue_plugs(&mut self, group: GroupId, slices: Vec<PlugSlice>) {
        let since = self.now().saturating_sub(ACTIVE_US);
        for plug in slices {
            let flows = self.flows_of(plug.slice);
            let waits = |flow: &Flow| self.ingress.last_seen_us(&vmm_flow(flow)).is_some_and(|at| at >= since);
            let urgent = flows.iter().any(waits);
            self.activations.queue(group, plug, urgent);
        }
    }

    /// Copies some waiting images into the arena and asks the guest to attach them.
    pub(crate) fn plug_some(&mut self) {
        if !self.guest_running {
            return;
        }
        let until = self.now() + STEP_US;
        while let Some((group, plug)) = self.activations.next() {
            self.plug_one(group, plug);
            if self.now() >= until {
                break;
            }
        }
    }

    fn plug_one(&mut self, group: GroupId, plug: PlugSlice) {
        let PlugSlice { slice, flow, .. } = plug;
        if let Err(cause) = self.install(group, slice, flow) {
            tracing::warn!(%slice, %cause, "slice cannot be plugged");
            self.flows_of(slice).iter().for_each(|flow| self.groups.plugged(flow));
            self.engine_event(Event::Plugged { group, slice, ok: false });
        }
    }

    fn install(&mut self, group: GroupId, slice: SliceId, flow: Flow) -> Result<(), String> {
        self.add_lease_of(slice.slot);
        let published = self.images.get(vmm_slice(slice)).and_then(|image| image.published.as_ref());
        let flows = published.map(|p| p.connections.open_flows()).unwrap_or_default();
        self.valve.bind_plugged(vmm_slice(slice), &flows).map_err(|e| e.to_string())?;
        if let Err(error) = self.images.install(vmm_slice(slice), self.vm.slots()) {
            self.valve.discard(vmm_slice(slice));
            return Err(error.to_string());
        }
        self.commits.forget(slice.slot);
        if !self.slices.insert(OwnedSlice { id: slice, group, flow, stage: Stage::Plugging }) {
            self.valve.discard(vmm_slice(slice));
            return Err("its slot is taken".into());
        }
        self.vm.control().send(HostMessage::Plug { slot: slice.slot, incarnation: slice.inc });
        Ok(())
    }

    /// The guest attached a slice, or refused to.
    pub(crate) fn on_plugged(&mut self, slice: SliceId, status: u32) {
        let Some(owned) = self.slices.at_mut(slice.slot).filter(|s| s.id == slice && s.stage == Stage::Plugging) else {
            return;
        };
        let (group, ok) = (owned.group, status == 0);
        owned.stage = Stage::Running;
        if ok {
            if let Some(milestone) = self.activations.plugged(group) {
                self.milestone(milestone);
            }
            self.free_ended_connections(slice);
            self.valve.want_capture(vmm_slice(slice));
        } else {
            tracing::warn!(%slice, status, "the guest refused to plug a slice");
            self.forget_slice(slice);
        }
        self.engine_event(Event::Plugged { group, slice, ok });
    }

    /// The slice runs: what was kept of its input first, then the rest as it comes.
    pub(crate) fn open_gate(&mut self, slice: SliceId) {
        if self.slices.get(slice).is_some() {
            self.empty_mirror();
            let flows = self.flows_of(slice);
            for flow in &flows {
                self.groups.plugged(flow);
                self.replay(flow);
            }
            // And the first frames of connections that join it.
            let now = self.now();
            let joining = flows.first().map(|flow| self.groups.remembered_with(flow, now)).unwrap_or_default();
            self.replay_unbound(&joining, now);
        }
    }

    /// All slices of the group run: its new flows may come in.
    pub(crate) fn open_group(&mut self, group: GroupId) {
        self.groups.set(group, Access::Open);
        self.empty_mirror();
        let now = self.now();
        let begun = self.groups.remembered_of(group, now);
        self.replay_unbound(&begun, now);
    }

    fn replay_unbound(&mut self, flows: &[Flow], now: u64) {
        for flow in flows {
            if self.valve.bindings().slice_of(&vmm_flow(flow)).is_none() {
                self.replay_new(flow, now);
            }
        }
    }

    /// A connection that began while its group had no owner: its SYN comes to the guest now.
    fn replay_new(&mut self, flow: &Flow, now: u64) {
        use escape_vmm::commit::{Frame, Source, parse};
        let mut syn = None;
        self.ingress.replay(&vmm_flow(flow), &mut |frame| {
            if let Frame::Tcp(segment) = parse(frame, Source::Client)
                && segment.flags.pure_syn()
            {
                syn = Some((segment, frame.to_vec()));
            }
            true
        });
        if let Some((segment, frame)) = syn {
            self.valve.saw_syn_frame(&segment, &frame, now);
            self.give_guest(None, &frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_proto::CheckpointNo;

    fn plug(port: u16) -> PlugSlice {
        let flow = Flow { ip: [10, 0, 0, 1], port, service_port: 80 };
        PlugSlice { slice: SliceId { slot: u32::from(port), inc: 1 }, flow, no: CheckpointNo(1) }
    }

    #[test]
    fn who_waits_is_served_first_and_nobody_twice() {
        let mut a = Activations::default();
        let (first, second) = (GroupId(1), GroupId(2));
        (1..5).for_each(|port| a.queue(first, plug(port), port == 3));
        a.queue(second, plug(9), false);
        a.hurry(plug(4).slice);
        a.hurry(plug(4).slice);
        a.hurry(plug(77).slice);
        a.cancel(second);
        let order: Vec<u16> = std::iter::from_fn(|| a.next()).map(|(_, p)| p.flow.port).collect();
        assert_eq!(order, [3, 4, 1, 2]);
        assert!(!a.has_work() && a.next().is_none());
        a.queue(first, plug(1), false);
        assert!(a.has_work(), "a slice may be plugged again");
    }
}
