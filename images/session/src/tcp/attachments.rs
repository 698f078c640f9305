//! What this guest knows of attached slices beside their slots: which flows are whose, and how clocks differ.

use crate::clock::SECOND;
use crate::flows::{ClientTable, FlowTable};
use alloc::vec;
use alloc::vec::Vec;
use escape_abi::message::Flow;
use escape_abi::meta::CONNECTIONS_MAX;
use escape_capsule::SliceKey;

/// At most one probe per slice in this time is sent because of a segment that nobody should have sent (RFC 5961).
const CHALLENGE_EVERY: i64 = SECOND;

/// An attached slice.
#[derive(Clone, Copy, Debug, Default)]
struct Attached {
    /// Incarnation; 0 = nothing is attached.
    incarnation: u64,
    /// The slice's clock minus this guest's, us.
    offset: i64,
    flows: [Option<Flow>; CONNECTIONS_MAX],
    /// Whose the flows are, and were.
    client: [u8; 4],
    /// Guest time of the last challenge.
    challenged_at: i64,
}

/// All attached slices. Bounded by the slots.
#[derive(Debug)]
pub(crate) struct Attachments {
    by_slot: Vec<Attached>,
    count: usize,
    flows: FlowTable,
    /// Where the slice of a client address is, if there are slices per client.
    clients: ClientTable,
}

impl Attachments {
    /// Nothing attached. `seed` is a secret.
    pub(crate) fn new(n_slots: u32, seed: u64) -> Self {
        Self {
            by_slot: vec![Attached::default(); n_slots as usize],
            count: 0,
            flows: FlowTable::new(seed.rotate_left(17)),
            clients: ClientTable::new(seed.rotate_left(41)),
        }
    }

    /// All connections of a client address are one slice.
    pub(crate) const fn per_client(&self) -> bool {
        self.clients.on
    }
    pub(crate) const fn set_per_client(&mut self, on: bool) {
        self.clients.on = on;
    }

    /// Slices attached here.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Slot and place of a connection.
    pub(crate) fn of_flow(&self, flow: Flow) -> Option<(u32, usize)> {
        self.flows.get(flow)
    }

    /// Slot of the slice that new connections of a client join.
    pub(crate) fn of_client(&self, ip: [u8; 4]) -> Option<u32> {
        self.clients.get(ip)
    }

    pub(crate) fn incarnation(&self, slot: u32) -> Option<u64> {
        self.by_slot.get(slot as usize).map(|a| a.incarnation).filter(|i| *i != 0)
    }

    /// The slice's clock minus this guest's, us.
    pub(crate) fn offset(&self, slot: u32) -> i64 {
        self.by_slot.get(slot as usize).map_or(0, |a| a.offset)
    }

    /// Attaches a slice whose clock says `clock`, without a connection yet. Its slot must be free.
    pub(crate) fn attach(&mut self, key: SliceKey, clock: i64, now: i64) -> bool {
        let Some(entry) = self.by_slot.get_mut(key.slot as usize) else { return false };
        if entry.incarnation != 0 || key.incarnation == 0 {
            return false;
        }
        *entry = Attached {
            incarnation: key.incarnation,
            offset: clock.wrapping_sub(now),
            flows: [None; CONNECTIONS_MAX],
            client: [0; 4],
            challenged_at: now - CHALLENGE_EVERY,
        };
        self.count += 1;
        true
    }

    /// Attaches a connection of an attached slice; its flow must be free.
    pub(crate) fn attach_flow(&mut self, slot: u32, place: usize, flow: Flow) -> bool {
        let Some(attached) = self.by_slot.get_mut(slot as usize).filter(|a| a.incarnation != 0) else { return false };
        let Some(entry @ None) = attached.flows.get_mut(place) else { return false };
        if !self.flows.insert(flow, slot, place) {
            return false;
        }
        (*entry, attached.client) = (Some(flow), flow.ip);
        self.clients.insert(flow.ip, slot);
        true
    }

    /// Detaches a connection: what still comes for it is for nobody.
    pub(crate) fn detach_flow(&mut self, slot: u32, place: usize) {
        let entry = self.by_slot.get_mut(slot as usize).and_then(|a| a.flows.get_mut(place));
        if let Some(flow) = entry.and_then(Option::take) {
            self.flows.remove(flow);
        }
    }

    /// Detaches a slice without looking at its slot.
    pub(crate) fn detach(&mut self, slot: u32) {
        if let Some(entry) = self.by_slot.get_mut(slot as usize).filter(|a| a.incarnation != 0) {
            for flow in entry.flows.iter().flatten() {
                self.flows.remove(*flow);
            }
            self.clients.remove(entry.client, slot);
            *entry = Attached::default();
            self.count -= 1;
        }
    }

    /// A challenge may be sent now.
    pub(crate) fn may_challenge(&mut self, slot: u32, now: i64) -> bool {
        let Some(a) = self.by_slot.get_mut(slot as usize) else { return false };
        let may = now - a.challenged_at >= CHALLENGE_EVERY;
        if may {
            a.challenged_at = now;
        }
        may
    }
}
