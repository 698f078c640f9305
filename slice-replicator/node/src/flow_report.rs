//! What this node knows of one client connection: for people who look for a session that nobody serves.

use crate::groups::Access;
use crate::inbound::cell_flow;
use crate::node::Node;
use crate::outbound::vmm_slice;
use crate::slice_table::OwnedSlice;
use escape_proto::Flow;
use escape_vmm::SlotMemory;
use serde_json::{Value, json};
use std::net::SocketAddrV4;

/// Flows of one client address and port that are told; a client may have one per port of the service.
const FLOWS_MAX: usize = 4;

impl Node {
    /// Everything known of the connections of a client: slices that are owned, images, kept input.
    /// Looks at every slot: for people, not for the commit path.
    pub(crate) fn flow_report(&self, client: SocketAddrV4) -> Value {
        let is_of = |flow: &Flow| flow.ip == client.ip().octets() && flow.port == client.port();
        let owned: Vec<Value> =
            self.slices.iter().filter(|s| is_of(&s.flow)).take(FLOWS_MAX).map(|s| self.owned_report(s)).collect();
        let of_image = self.images.iter().filter(|image| is_of(&cell_flow(&image.flow)));
        let images: Vec<Value> = of_image
            .take(FLOWS_MAX)
            .map(|image| {
                let slice = image.slice;
                json!({
                    "slice": slice.to_string(), "role": format!("{:?}", image.role), "number": image.number,
                    "generation": image.generation(),
                    "published": image.published.as_ref().map(|p| json!({
                        "rcv_nxt": p.rcv_nxt, "snd_nxt": p.snd_nxt, "requests": p.requests, "closed": p.closed(),
                    })),
                    "kept_frames": self.ingress.kept(&image.flow),
                    "bound": self.valve.bindings().slice_of(&image.flow).map(|s| s.to_string()),
                })
            })
            .collect();
        json!({ "member": self.me.map(|m| m.to_string()), "guest": self.guest_running, "owned": owned, "images": images })
    }

    fn owned_report(&self, owned: &OwnedSlice) -> Value {
        let (id, slot) = (vmm_slice(owned.id), owned.id.slot);
        let word = self.vm.slots().word(slot);
        let access = match self.groups.access(owned.group) {
            Access::Foreign => "foreign",
            Access::Gated => "gated",
            Access::Open => "open",
        };
        json!({
            "slice": id.to_string(), "flow": owned.flow.to_string(), "stage": format!("{:?}", owned.stage),
            "group": owned.group.to_string(), "access": access,
            "record": self.engine.record(owned.group).map(|r| format!("{r:?}")),
            "waits_for_plug": self.groups.keeps(&owned.flow, true),
            "ledger": self.engine.slice_report(owned.id),
            "word": word.map(|w| json!({ "generation": w.generation(), "refs": w.refs() })),
            "held_frames": self.valve.held_frames(slot), "quarantined": self.valve.is_quarantined(id),
            "output": self.valve.report(slot),
        })
    }
}
