//! Which slice a flow belongs to.
//!
//! The guest claims flows, and is not believed: a binding is accepted only for a SYN that this VMM received itself, or
//! for a slice that this VMM plugged. A live flow or slot is never bound again; but a slice may have connections of one
//! client beside each other.

use super::connections::Flows;
use super::slice_id::SliceId;
use super::syn_options::SynOptions;
use super::syn_table::SynTable;
use escape_abi::message::Flow;
use escape_abi::meta::CONNECTIONS_MAX;
use std::collections::HashMap;
use thiserror::Error;

/// Why a binding was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BindError {
    /// The slot number is not of this cell.
    #[error("slice {slice}: the cell has {n_slots} slots")]
    NoSuchSlot {
        /// The slice claimed.
        slice: SliceId,
        /// Slots of the cell.
        n_slots: u32,
    },
    /// No SYN of that flow was received in the last 5 s.
    #[error("slice {slice}: no SYN from client port {port} was received here")]
    NoSyn {
        /// The slice claimed.
        slice: SliceId,
        /// Client port of the flow.
        port: u16,
    },
    /// The flow belongs to a live slice.
    #[error("slice {slice}: its flow belongs to slice {owner}")]
    FlowTaken {
        /// The slice claimed.
        slice: SliceId,
        /// Whose flow it is.
        owner: SliceId,
    },
    /// The slot holds a live slice.
    #[error("slice {slice}: the slot holds the live slice {live}")]
    SlotTaken {
        /// The slice claimed.
        slice: SliceId,
        /// The slice that lives there.
        live: SliceId,
    },
    /// The incarnation was used before (invariant I9).
    #[error("slice {slice}: incarnation {last:#x} of the slot was seen already")]
    StaleIncarnation {
        /// The slice claimed.
        slice: SliceId,
        /// Highest incarnation of the slot that was ever bound here.
        last: u64,
    },
    /// A connection of a slice that is not bound.
    #[error("slice {slice}: no such slice runs here")]
    NotBound {
        /// The slice claimed.
        slice: SliceId,
    },
    /// The place in the slice is taken, or there is none of that number.
    #[error("slice {slice}: place {place} of {CONNECTIONS_MAX} is not free")]
    PlaceTaken {
        /// The slice claimed.
        slice: SliceId,
        /// The place.
        place: usize,
    },
    /// The slice is another client's.
    #[error("slice {slice}: it has connections of another client than {}", std::net::Ipv4Addr::from(*ip))]
    OtherClient {
        /// The slice claimed.
        slice: SliceId,
        /// Address of the new flow's client.
        ip: [u8; 4],
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct SlotBinding {
    /// Highest incarnation ever bound; outlives the binding.
    last_incarnation: u64,
    live: bool,
    flows: Flows,
}

/// The table flow ↔ slice of one guest. Bounded by the cell's slots; SYNs are bounded by [`SynTable`].
#[derive(Debug)]
pub struct Bindings {
    slots: Vec<SlotBinding>,
    slot_of_flow: HashMap<Flow, u32>,
    syns: SynTable,
}

impl Bindings {
    /// No flow bound, for a cell of `n_slots`.
    pub fn new(n_slots: u32) -> Self {
        Self {
            slots: vec![SlotBinding::default(); n_slots as usize],
            slot_of_flow: HashMap::new(),
            syns: SynTable::default(),
        }
    }

    /// A SYN for a protected port came in by this VMM's tap (or is replayed to the guest).
    pub fn saw_syn(&mut self, flow: Flow, isn: u32, options: SynOptions, now: u64) {
        self.syns.saw(flow, isn, options, now);
    }

    /// The SYN of a flow that may be bound now: its sequence number and what it offered.
    pub fn syn_of(&self, flow: &Flow, now: u64) -> Option<(u32, SynOptions)> {
        self.syns.get(flow, now)
    }

    /// Binds a slice that the guest has just allocated; uses up the flow's SYN and returns its sequence number.
    pub fn bind(&mut self, slice: SliceId, flow: Flow, now: u64) -> Result<u32, BindError> {
        let last = self.check_free(slice, &flow)?;
        if slice.incarnation <= last {
            return Err(BindError::StaleIncarnation { slice, last });
        }
        let isn = self.syns.take(&flow, now).ok_or(BindError::NoSyn { slice, port: flow.port })?;
        self.insert(slice, &first(flow));
        Ok(isn)
    }

    /// Binds another flow of the same client to a slice that runs; uses up the flow's SYN.
    pub fn join(&mut self, slice: SliceId, place: usize, flow: Flow, now: u64) -> Result<(), BindError> {
        if self.in_slot(slice.slot) != Some(slice) {
            return Err(BindError::NotBound { slice });
        }
        if let Some(owner) = self.slice_of(&flow) {
            return Err(BindError::FlowTaken { slice, owner });
        }
        if self.flows_of(slice).any(|present| present.ip != flow.ip) {
            return Err(BindError::OtherClient { slice, ip: flow.ip });
        }
        let binding = self.slots.get_mut(slice.slot as usize).ok_or(BindError::NotBound { slice })?;
        let entry = binding.flows.get_mut(place).filter(|entry| entry.is_none());
        let entry = entry.ok_or(BindError::PlaceTaken { slice, place })?;
        self.syns.take(&flow, now).ok_or(BindError::NoSyn { slice, port: flow.port })?;
        *entry = Some(flow);
        self.slot_of_flow.insert(flow, slice.slot);
        Ok(())
    }

    /// Binds a slice that this VMM is about to plug: its right to the flows is its image's.
    pub fn bind_plugged(&mut self, slice: SliceId, flows: &Flows) -> Result<(), BindError> {
        let mut last = self.check_slot(slice)?;
        for flow in flows.iter().flatten() {
            last = self.check_free(slice, flow)?;
        }
        if slice.incarnation < last {
            return Err(BindError::StaleIncarnation { slice, last });
        }
        self.insert(slice, flows);
        Ok(())
    }

    /// Ends the binding of `slice` and of all its flows; false if it was not bound.
    pub fn unbind(&mut self, slice: SliceId) -> bool {
        let Some(binding) = self.slots.get_mut(slice.slot as usize) else { return false };
        if binding.last_incarnation != slice.incarnation || !std::mem::take(&mut binding.live) {
            return false;
        }
        for flow in std::mem::take(&mut binding.flows).iter().flatten() {
            self.slot_of_flow.remove(flow);
        }
        true
    }

    /// Ends the binding of one flow of `slice`; false if it was not bound.
    pub fn unbind_flow(&mut self, slice: SliceId, flow: &Flow) -> bool {
        if self.slice_of(flow) != Some(slice) {
            return false;
        }
        self.slot_of_flow.remove(flow);
        if let Some(binding) = self.slots.get_mut(slice.slot as usize) {
            binding.flows.iter_mut().filter(|f| **f == Some(*flow)).for_each(|f| *f = None);
        }
        true
    }

    /// The slice that owns a flow.
    pub fn slice_of(&self, flow: &Flow) -> Option<SliceId> {
        self.in_slot(*self.slot_of_flow.get(flow)?)
    }

    /// The slice that lives in a slot.
    pub fn in_slot(&self, slot: u32) -> Option<SliceId> {
        let binding = self.slots.get(slot as usize)?;
        binding.live.then_some(SliceId { slot, incarnation: binding.last_incarnation })
    }

    /// The flows of a slice.
    pub fn flows_of(&self, slice: SliceId) -> impl Iterator<Item = Flow> {
        let binding = self.slots.get(slice.slot as usize);
        let binding = binding.filter(|b| b.live && b.last_incarnation == slice.incarnation);
        binding.into_iter().flat_map(|b| b.flows.into_iter().flatten())
    }

    /// Bound flows.
    pub fn len(&self) -> usize {
        self.slot_of_flow.len()
    }

    /// No flow is bound.
    pub fn is_empty(&self) -> bool {
        self.slot_of_flow.is_empty()
    }

    /// Both flow and slot are free; returns the last incarnation of the slot.
    fn check_free(&self, slice: SliceId, flow: &Flow) -> Result<u64, BindError> {
        let last = self.check_slot(slice)?;
        match self.slice_of(flow) {
            Some(owner) => Err(BindError::FlowTaken { slice, owner }),
            None => Ok(last),
        }
    }

    fn check_slot(&self, slice: SliceId) -> Result<u64, BindError> {
        let n_slots = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let binding = self.slots.get(slice.slot as usize).ok_or(BindError::NoSuchSlot { slice, n_slots })?;
        match self.in_slot(slice.slot) {
            Some(live) => Err(BindError::SlotTaken { slice, live }),
            None => Ok(binding.last_incarnation),
        }
    }

    fn insert(&mut self, slice: SliceId, flows: &Flows) {
        if let Some(binding) = self.slots.get_mut(slice.slot as usize) {
            *binding = SlotBinding { last_incarnation: slice.incarnation, live: true, flows: *flows };
            self.slot_of_flow.extend(flows.iter().flatten().map(|flow| (*flow, slice.slot)));
        }
    }
}

/// One flow in the first place.
fn first(flow: Flow) -> Flows {
    let mut flows = Flows::default();
    if let Some(place) = flows.first_mut() {
        *place = Some(flow);
    }
    flows
}

#[cfg(test)]
mod tests {
    use super::super::test_frames::flow;
    use super::*;

    fn slice(slot: u32, incarnation: u64) -> SliceId {
        SliceId { slot, incarnation }
    }

    #[test]
    fn a_claim_without_a_syn_is_refused() {
        let mut b = Bindings::new(4);
        assert_eq!(b.bind(slice(0, 1), flow(7), 0), Err(BindError::NoSyn { slice: slice(0, 1), port: 7 }));
        b.saw_syn(flow(7), 99, SynOptions::default(), 0);
        assert_eq!(b.bind(slice(0, 1), flow(7), 10), Ok(99));
        assert_eq!(b.slice_of(&flow(7)), Some(slice(0, 1)));
        // The SYN is used up: after the slice's end the claim needs another.
        assert!(b.unbind(slice(0, 1)));
        assert!(matches!(b.bind(slice(0, 2), flow(7), 11), Err(BindError::NoSyn { .. })));
    }

    #[test]
    fn live_flows_and_slots_are_not_bound_again() {
        let mut b = Bindings::new(4);
        b.saw_syn(flow(1), 1, SynOptions::default(), 0);
        b.saw_syn(flow(2), 2, SynOptions::default(), 0);
        assert!(b.bind(slice(0, 1), flow(1), 0).is_ok());
        b.saw_syn(flow(1), 1, SynOptions::default(), 0);
        assert!(matches!(b.bind(slice(1, 1), flow(1), 0), Err(BindError::FlowTaken { .. })));
        assert!(matches!(b.bind(slice(0, 2), flow(2), 0), Err(BindError::SlotTaken { .. })));
        assert!(matches!(b.bind_plugged(slice(0, 2), &first(flow(3))), Err(BindError::SlotTaken { .. })));
        assert!(matches!(b.bind(slice(4, 1), flow(2), 0), Err(BindError::NoSuchSlot { .. })));
        assert_eq!(b.slice_of(&flow(1)), Some(slice(0, 1)));
    }

    #[test]
    fn an_incarnation_is_used_once() {
        let mut b = Bindings::new(1);
        b.saw_syn(flow(1), 1, SynOptions::default(), 0);
        assert!(b.bind(slice(0, 5), flow(1), 0).is_ok());
        assert!(!b.unbind(slice(0, 4)));
        assert!(b.unbind(slice(0, 5)));
        b.saw_syn(flow(1), 1, SynOptions::default(), 0);
        assert!(matches!(b.bind(slice(0, 5), flow(1), 0), Err(BindError::StaleIncarnation { .. })));
        // A slice that moved away and comes back keeps its incarnation; an older one stays out.
        assert!(matches!(b.bind_plugged(slice(0, 4), &first(flow(1))), Err(BindError::StaleIncarnation { .. })));
        assert!(b.bind_plugged(slice(0, 5), &first(flow(1))).is_ok());
    }

    #[test]
    fn connections_of_one_client_share_a_slice() {
        let mut b = Bindings::new(2);
        (1..5).for_each(|port| b.saw_syn(flow(port), 1, SynOptions::default(), 0));
        let s = slice(0, 1);
        assert_eq!(b.join(s, 1, flow(2), 0), Err(BindError::NotBound { slice: s }));
        assert!(b.bind(s, flow(1), 0).is_ok());
        assert_eq!(b.join(s, 0, flow(2), 0), Err(BindError::PlaceTaken { slice: s, place: 0 }));
        assert_eq!(b.join(s, CONNECTIONS_MAX, flow(2), 0), Err(BindError::PlaceTaken { slice: s, place: 4 }));
        assert_eq!(b.join(s, 2, flow(2), 0), Ok(()), "a refused claim leaves the SYN");
        assert_eq!(b.join(s, 3, flow(9), 0), Err(BindError::NoSyn { slice: s, port: 9 }));
        let stranger = Flow { ip: [10, 0, 0, 8], ..flow(3) };
        b.saw_syn(stranger, 1, SynOptions::default(), 0);
        assert_eq!(b.join(s, 3, stranger, 0), Err(BindError::OtherClient { slice: s, ip: stranger.ip }));
        assert!(matches!(b.bind(slice(1, 1), flow(2), 0), Err(BindError::FlowTaken { .. })));
        assert_eq!((b.slice_of(&flow(1)), b.slice_of(&flow(2)), b.len()), (Some(s), Some(s), 2));
        // The slice outlives its first connection.
        assert!(b.unbind_flow(s, &flow(1)) && !b.unbind_flow(s, &flow(1)));
        assert_eq!((b.in_slot(0), b.flows_of(s).collect::<Vec<_>>()), (Some(s), vec![flow(2)]));
        assert!(b.unbind(s));
        assert_eq!((b.slice_of(&flow(2)), b.len()), (None, 0));
    }
}
