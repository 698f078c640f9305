//! The connections of a slice: one, or several of one client address.

use crate::inbound::{cell_flow, vmm_flow};
use crate::node::Node;
use crate::outbound::vmm_slice;
use crate::slice_table::{OwnedSlice, Stage};
use escape_abi::HostMessage;
use escape_proto::{Flow, FlowEntry, GroupId, SliceId};
use escape_vmm::commit::tombstone::{TOMBSTONE_US, Tombstone};
use escape_vmm::commit::{Connection, Connections, Coverage, Place};

/// Flows of slices that were given up and that the edge remembers still; the oldest goes for a new one.
const GIVEN_UP_FLOWS_MAX: usize = 1_024;

impl Node {
    /// Flows of a slice, owned or imaged: at most [`escape_abi::meta::CONNECTIONS_MAX`].
    pub(crate) fn flows_of(&self, slice: SliceId) -> Vec<Flow> {
        let bound: Vec<Flow> = self.valve.bindings().flows_of(vmm_slice(slice)).map(|f| cell_flow(&f)).collect();
        if !bound.is_empty() {
            return bound;
        }
        self.saved_flows_of(slice)
    }

    /// Flows of a slice as its image has them: what is left of it when its guest dies.
    pub(crate) fn saved_flows_of(&self, slice: SliceId) -> Vec<Flow> {
        let Some(image) = self.images.get(vmm_slice(slice)) else { return Vec::new() };
        let places = image.published.as_ref().map_or(image.places, |p| p.connections.places());
        places.iter().filter_map(Place::flow).map(|flow| cell_flow(&flow)).collect()
    }

    /// The guest took another connection of a client into that client's slice.
    pub(crate) fn on_join(&mut self, owned: &OwnedSlice, flow: escape_abi::message::Flow, place: usize, serial: u16) {
        let (id, now) = (vmm_slice(owned.id), self.now());
        let refused = if self.config.service.slice_per_client {
            self.valve.join(id, place, flow, now).err().map(|e| e.to_string())
        } else {
            Some("every connection is a slice of its own".to_owned())
        };
        match refused {
            None => {
                // The fabric steers all flows of the client already.
                self.images.add_flow(id, place, flow, serial);
            }
            Some(cause) => {
                self.metrics.bindings_refused += 1;
                tracing::debug!(slice = %id, flow = %cell_flow(&flow), cause, "connection refused");
                if self.images.get(id).and_then(|i| i.places.get(place)).is_some_and(|p| p.flow().is_none()) {
                    self.images.leave_place(id, place, serial);
                }
                self.free_connection(owned.id, flow);
            }
        }
    }

    fn free_connection(&mut self, slice: SliceId, flow: escape_abi::message::Flow) {
        let SliceId { slot, inc: incarnation } = slice;
        self.vm.control().send(HostMessage::ConnectionFree { slot, incarnation, flow });
    }

    /// A checkpoint is committed in which connections have ended while the slice goes on: all that they said has left.
    pub(crate) fn end_connections(&mut self, slice: SliceId, committed: &Coverage) {
        let closing = self.slices.get(slice).is_none_or(|s| s.stage == Stage::Closing);
        if closing || !committed.connections.iter().any(|(_, c)| c.ended) {
            return;
        }
        for (place, connection) in committed.connections.iter().filter(|(_, c)| c.ended) {
            // Once: it is unbound at the first commit that says so.
            if self.valve.end_connection(vmm_slice(slice), &connection.flow) {
                self.images.leave_place(vmm_slice(slice), place, connection.serial);
                self.entomb_connection(slice, connection);
                self.ingress.forget(&connection.flow);
                self.free_connection(slice, connection.flow);
            }
        }
    }

    /// After a plug: connections that ended under the last owner still have their places.
    pub(crate) fn free_ended_connections(&mut self, slice: SliceId) {
        let published = self.images.get(vmm_slice(slice)).and_then(|image| image.published.as_ref());
        let connections = published.map(|p| p.connections).unwrap_or_default();
        for (_, connection) in connections.iter().filter(|(_, c)| c.ended) {
            self.free_connection(slice, connection.flow);
        }
    }

    /// At the standby: what a checkpoint says about connections, after what the one before said.
    pub(crate) fn follow_connections(&mut self, slice: SliceId, before: &Connections, after: &Connections) {
        let now = self.now();
        for (_, gone) in before.iter().filter(|(_, c)| !c.ended && after.of_flow(&c.flow).is_none()) {
            self.ingress.forget(&gone.flow);
        }
        for (_, connection) in after.iter() {
            let flow = connection.flow;
            let old = before.of_flow(&flow);
            if !connection.ended {
                if old.is_some_and(|old| old.ended) {
                    self.ingress.forget(&flow); // The same ports again: the numbers are others.
                }
                self.ingress.covered(flow, connection.rcv_nxt, now);
            } else if old.is_none_or(|old| !old.ended) {
                self.ingress.forget(&flow);
                self.entomb_connection(slice, connection);
            }
        }
    }

    /// Late segments of a connection that has ended are answered from here.
    fn entomb_connection(&mut self, slice: SliceId, connection: &Connection) {
        let Connection { flow, rcv_nxt, snd_nxt, .. } = *connection;
        let now = self.now();
        self.tombstones.lay(Tombstone { slice: vmm_slice(slice), flow, snd_nxt, rcv_nxt }, TOMBSTONE_US, now);
    }

    /// All connections of a slice have ended: what its last checkpoint said of them stands as tombstones.
    pub(crate) fn lay_tombstones(&mut self, slice: SliceId) {
        let published = self.images.get(vmm_slice(slice)).and_then(|image| image.published.as_ref());
        let connections = published.map(|p| p.connections).unwrap_or_default();
        let now = self.now();
        for (_, connection) in connections.iter() {
            // Those that ended before have one already, and perhaps a successor.
            if self.tombstones.get(&connection.flow, now).is_none() {
                self.entomb_connection(slice, connection);
            }
        }
    }

    /// A slice was given up: its clients are reset when they say something.
    pub(crate) fn lay_given_up(&mut self, slice: SliceId) {
        let published = self.images.get(vmm_slice(slice)).and_then(|image| image.published.as_ref());
        let connections = published.map(|p| p.connections).unwrap_or_default();
        let now = self.now();
        for (_, Connection { flow, rcv_nxt, snd_nxt, .. }) in connections.iter().filter(|(_, c)| !c.ended) {
            let tombstone = Tombstone { slice: vmm_slice(slice), flow: *flow, snd_nxt: *snd_nxt, rcv_nxt: *rcv_nxt };
            self.tombstones.lay_given_up(tombstone, now);
        }
        // Until then what its clients say comes here.
        if let Some(owned) = self.slices.get(slice) {
            let flow = self.groups.steered(&owned.flow);
            self.given_up_flows.push_back((now.saturating_add(TOMBSTONE_US), flow));
        }
    }

    /// The edge may forget flows of slices that were given up a while ago.
    pub(crate) fn forget_given_up(&mut self, now: u64) {
        let too_many = self.given_up_flows.len().saturating_sub(GIVEN_UP_FLOWS_MAX);
        let due = self.given_up_flows.iter().take_while(|(until_us, _)| *until_us <= now).count();
        for (_, flow) in self.given_up_flows.drain(..due.max(too_many)) {
            let is_used = self.slices.iter().any(|owned| self.groups.steered(&owned.flow) == flow);
            if !is_used {
                self.ended_flows.push(flow);
            }
        }
    }

    /// A slice begins: the edge is told whose flows are where.
    pub(crate) fn flow_began(&mut self, flow: Flow, group: GroupId) {
        let flow = self.groups.steered(&flow);
        // The client's former slice may have ended in this turn.
        self.ended_flows.retain(|ended| *ended != flow);
        self.new_flows.push(FlowEntry { flow, group });
    }

    /// The edge may forget the slice's flow (at the end of this turn), unless the client has another slice here by now.
    pub(crate) fn flow_ended(&mut self, slice: SliceId) {
        let Some(owned) = self.slices.get(slice) else { return };
        let flow = self.groups.steered(&owned.flow);
        if self.slices.of_client(owned.flow.ip).is_none_or(|present| present.id == slice) {
            self.ended_flows.push(flow);
        }
    }

    /// The group that a new flow belongs to: that of its client's slice, or that of its bucket.
    pub(crate) fn group_of_new(&self, flow: &Flow) -> Option<GroupId> {
        self.slices.of_client(flow.ip).map(|s| s.group).or_else(|| self.groups.of_new_flow(flow))
    }

    /// Input of the slice's flows is neither kept nor waited for any more.
    pub(crate) fn forget_input(&mut self, flows: &[Flow]) {
        for flow in flows {
            self.groups.plugged(flow);
            self.ingress.forget(&vmm_flow(flow));
        }
    }
}
