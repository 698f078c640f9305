//! What this node knows of one client connection: for people who look for a session that nobody serves.

use crate::groups::Access;
use crate::inbound::cell_flow;
use crate::node::Node;
use crate::outbound::{cell_slice, vmm_slice};
use crate::slice_table::OwnedSlice;
use escape_proto::{Flow, SliceId};
use escape_vmm::SlotMemory;
use escape_vmm::commit::Connection;
use serde_json::{Value, json};
use std::net::SocketAddrV4;

/// Flows of one client address and port that are told; a client may have one per port of the service.
const FLOWS_MAX: usize = 4;

impl Node {
    /// Everything known of the connections of a client: slices that are owned, images, kept input.
    /// Looks at every slot: for people, not for the commit path.
    pub(crate) fn flow_report(&self, client: SocketAddrV4) -> Value {
        let is_of = |flow: &Flow| flow.ip == client.ip().octets() && flow.port == client.port();
        let has = |slice: SliceId| self.flows_of(slice).iter().any(is_of);
        let owned: Vec<Value> =
            self.slices.iter().filter(|s| has(s.id)).take(FLOWS_MAX).map(|s| self.owned_report(s)).collect();
        let of_image = self.images.iter().filter(|image| has(cell_slice(image.slice)));
        let images: Vec<Value> = of_image
            .take(FLOWS_MAX)
            .map(|image| {
                let slice = image.slice;
                json!({
                    "slice": slice.to_string(), "role": format!("{:?}", image.role), "number": image.number,
                    "generation": image.generation(),
                    "published": image.published.as_ref().map(|p| json!({
                        "requests": p.requests, "closed": p.closed(),
                        "connections": p.connections.iter().map(|(place, c)| self.connection_report(place, c)).collect::<Vec<_>>(),
                    })),
                })
            })
            .collect();
        json!({ "member": self.me.map(|m| m.to_string()), "guest": self.guest_running, "owned": owned, "images": images })
    }

    fn connection_report(&self, place: usize, c: &Connection) -> Value {
        json!({
            "place": place, "flow": cell_flow(&c.flow).to_string(),
            "rcv_nxt": c.rcv_nxt, "snd_nxt": c.snd_nxt, "ended": c.ended,
            "kept_frames": self.ingress.kept(&c.flow),
            "bound": self.valve.bindings().slice_of(&c.flow).map(|s| s.to_string()),
        })
    }

    fn owned_report(&self, owned: &OwnedSlice) -> Value {
        let (id, slot) = (vmm_slice(owned.id), owned.id.slot);
        let word = self.vm.slots().word(slot);
        let flows: Vec<String> = self.flows_of(owned.id).iter().map(Flow::to_string).collect();
        let access = match self.groups.access(owned.group) {
            Access::Foreign => "foreign",
            Access::Gated => "gated",
            Access::Open => "open",
        };
        json!({
            "slice": id.to_string(), "flow": owned.flow.to_string(), "flows": flows, "stage": format!("{:?}", owned.stage),
            "group": owned.group.to_string(), "access": access,
            "record": self.engine.record(owned.group).map(|r| format!("{r:?}")),
            "waits_for_plug": self.groups.keeps(&owned.flow, true, None),
            "ledger": self.engine.slice_report(owned.id),
            "word": word.map(|w| json!({ "generation": w.generation(), "refs": w.refs() })),
            "held_frames": self.valve.held_frames(slot), "quarantined": self.valve.is_quarantined(id),
            "output": self.valve.report(slot),
        })
    }
}
