//! T9 in the VMM: a slice comes to rest, and is an image for its new owner.

use crate::node::Node;
use crate::outbound::vmm_slice;
use crate::slice_table::Stage;
use escape_abi::HostMessage;
use escape_engine::node::Event;
use escape_proto::{GroupId, MoveAnswer, MoveWhat, NodeId, SliceId, ToOrchestrator};

impl Node {
    /// An operator wants a session moved, wherever it is.
    pub(crate) fn move_asked(&mut self, request: u64, what: MoveWhat, to: Option<NodeId>) {
        let slices: Vec<SliceId> = match what {
            MoveWhat::Slice(slice) => self.slices.get(slice).map(|s| s.id).into_iter().collect(),
            MoveWhat::Client { ip, port } => {
                let of_client = |slice: &SliceId| self.flows_of(*slice).iter().any(|f| f.ip == ip && f.port == port);
                self.slices.iter().map(|s| s.id).filter(of_client).collect()
            }
        };
        let answer = match slices.len() {
            0 => MoveAnswer::NotHere,
            1 => return self.engine_event(Event::MoveAsked { request, slices, to }),
            _ => {
                let names: Vec<String> = slices.iter().map(ToString::to_string).collect();
                let cause = format!("the client has several sessions, name one: {}", names.join(", "));
                MoveAnswer::Refused { cause, again: false }
            }
        };
        self.answer_move(request, answer);
    }

    pub(crate) fn answer_move(&mut self, request: u64, answer: MoveAnswer) {
        self.orchestrator.send(&ToOrchestrator::MoveAnswer { request, answer });
    }

    /// No new reference from now on; captured once more when it is at rest.
    pub(crate) fn freeze(&mut self, slice: SliceId) {
        if self.slices.get(slice).is_some() {
            self.capturer.freeze(vmm_slice(slice), self.vm.slots());
            self.valve.want_capture(vmm_slice(slice));
        }
    }

    /// It goes on here, and what waited for it too.
    pub(crate) fn thaw(&mut self, slice: SliceId) {
        self.capturer.thaw(vmm_slice(slice), self.vm.slots());
        if let Some(owned) = self.slices.at_mut(slice.slot).filter(|s| s.id == slice && s.stage == Stage::Frozen) {
            owned.stage = Stage::Running;
            self.valve.want_capture(vmm_slice(slice));
        }
    }

    /// A capture found the slice at rest: if it is frozen, that is what it is.
    pub(crate) fn note_rest(&mut self, slice: SliceId) {
        if !self.capturer.is_frozen(vmm_slice(slice)) {
            return;
        }
        let Some(owned) = self.slices.at_mut(slice.slot).filter(|s| s.id == slice) else { return };
        let group = owned.group;
        if owned.stage == Stage::Running {
            owned.stage = Stage::Frozen;
        }
        self.engine_event(Event::Frozen { group, slice });
    }

    /// The slice is another node's: what this guest has of it goes in silence, its image and its mirrored input stay.
    pub(crate) fn hand_over(&mut self, slice: SliceId) {
        if self.slices.get(slice).is_none() {
            return;
        }
        let flows = self.flows_of(slice);
        self.detach(slice);
        self.vm.control().send(HostMessage::Discard { slot: slice.slot, incarnation: slice.inc });
        if !self.images.hand_over(vmm_slice(slice)) {
            tracing::warn!(%slice, "no image to hand over");
            self.images.free(vmm_slice(slice));
            return self.forget_input(&flows);
        }
        tracing::info!(%slice, ?flows, "moved out");
        // What the guest had of the input counts no more: from here on the mirror's is kept, behind what is covered.
        self.forget_input(&flows);
        let now = self.now();
        let published = self.images.get(vmm_slice(slice)).and_then(|image| image.published.as_ref());
        let connections = published.map(|p| p.connections).unwrap_or_default();
        for (_, connection) in connections.iter().filter(|(_, c)| !c.ended) {
            self.ingress.covered(connection.flow, connection.rcv_nxt, now);
        }
    }

    /// An image is of another group: if that comes to be owned here, the edge binds the slice's flows with its first steering.
    pub(crate) fn regroup(&mut self, slice: SliceId, to: GroupId) {
        let flows = self.flows_of(slice);
        tracing::info!(%slice, group = %to, ?flows, "moves in, or is another node's");
        for flow in flows.iter().take(1) {
            self.flow_began(*flow, to);
        }
    }
}
