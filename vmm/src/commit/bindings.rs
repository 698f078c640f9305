//! Which slice a flow belongs to.
//!
//! The guest claims flows, and is not believed: a binding is accepted only for a SYN that this VMM received itself, or
//! for a slice that this VMM plugged. A live flow or slot is never bound again.

use super::slice_id::SliceId;
use super::syn_table::SynTable;
use escape_abi::message::Flow;
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
}

#[derive(Clone, Copy, Debug, Default)]
struct SlotBinding {
    /// Highest incarnation ever bound; outlives the binding.
    last_incarnation: u64,
    live: Option<Flow>,
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
    pub fn saw_syn(&mut self, flow: Flow, isn: u32, now: u64) {
        self.syns.saw(flow, isn, now);
    }

    /// Binds a slice that the guest has just allocated; uses up the flow's SYN and returns its sequence number.
    pub fn bind(&mut self, slice: SliceId, flow: Flow, now: u64) -> Result<u32, BindError> {
        let last = self.check_free(slice, &flow)?;
        if slice.incarnation <= last {
            return Err(BindError::StaleIncarnation { slice, last });
        }
        let isn = self.syns.take(&flow, now).ok_or(BindError::NoSyn { slice, port: flow.port })?;
        self.insert(slice, flow);
        Ok(isn)
    }

    /// Binds a slice that this VMM is about to plug: its right to the flow is its image's.
    pub fn bind_plugged(&mut self, slice: SliceId, flow: Flow) -> Result<(), BindError> {
        let last = self.check_free(slice, &flow)?;
        if slice.incarnation < last {
            return Err(BindError::StaleIncarnation { slice, last });
        }
        self.insert(slice, flow);
        Ok(())
    }

    /// Ends the binding of `slice`; returns its flow if it was bound.
    pub fn unbind(&mut self, slice: SliceId) -> Option<Flow> {
        let binding = self.slots.get_mut(slice.slot as usize).filter(|b| b.last_incarnation == slice.incarnation)?;
        let flow = binding.live.take()?;
        self.slot_of_flow.remove(&flow);
        Some(flow)
    }

    /// The slice that owns a flow.
    pub fn slice_of(&self, flow: &Flow) -> Option<SliceId> {
        let slot = *self.slot_of_flow.get(flow)?;
        self.in_slot(slot).map(|(slice, _)| slice)
    }

    /// The slice that lives in a slot, and its flow.
    pub fn in_slot(&self, slot: u32) -> Option<(SliceId, Flow)> {
        let binding = self.slots.get(slot as usize)?;
        binding.live.map(|flow| (SliceId { slot, incarnation: binding.last_incarnation }, flow))
    }

    /// Bound slices.
    pub fn len(&self) -> usize {
        self.slot_of_flow.len()
    }

    /// No slice is bound.
    pub fn is_empty(&self) -> bool {
        self.slot_of_flow.is_empty()
    }

    /// Both flow and slot are free; returns the last incarnation of the slot.
    fn check_free(&self, slice: SliceId, flow: &Flow) -> Result<u64, BindError> {
        let n_slots = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let binding = self.slots.get(slice.slot as usize).ok_or(BindError::NoSuchSlot { slice, n_slots })?;
        if let Some((live, _)) = self.in_slot(slice.slot) {
            return Err(BindError::SlotTaken { slice, live });
        }
        if let Some(owner) = self.slice_of(flow) {
            return Err(BindError::FlowTaken { slice, owner });
        }
        Ok(binding.last_incarnation)
    }

    fn insert(&mut self, slice: SliceId, flow: Flow) {
        if let Some(binding) = self.slots.get_mut(slice.slot as usize) {
            *binding = SlotBinding { last_incarnation: slice.incarnation, live: Some(flow) };
            self.slot_of_flow.insert(flow, slice.slot);
        }
    }
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
        b.saw_syn(flow(7), 99, 0);
        assert_eq!(b.bind(slice(0, 1), flow(7), 10), Ok(99));
        assert_eq!(b.slice_of(&flow(7)), Some(slice(0, 1)));
        // The SYN is used up: after the slice's end the claim needs another.
        assert_eq!(b.unbind(slice(0, 1)), Some(flow(7)));
        assert!(matches!(b.bind(slice(0, 2), flow(7), 11), Err(BindError::NoSyn { .. })));
    }

    #[test]
    fn live_flows_and_slots_are_not_bound_again() {
        let mut b = Bindings::new(4);
        b.saw_syn(flow(1), 1, 0);
        b.saw_syn(flow(2), 2, 0);
        assert!(b.bind(slice(0, 1), flow(1), 0).is_ok());
        b.saw_syn(flow(1), 1, 0);
        assert!(matches!(b.bind(slice(1, 1), flow(1), 0), Err(BindError::FlowTaken { .. })));
        assert!(matches!(b.bind(slice(0, 2), flow(2), 0), Err(BindError::SlotTaken { .. })));
        assert!(matches!(b.bind_plugged(slice(0, 2), flow(3)), Err(BindError::SlotTaken { .. })));
        assert!(matches!(b.bind(slice(4, 1), flow(2), 0), Err(BindError::NoSuchSlot { .. })));
        assert_eq!(b.slice_of(&flow(1)), Some(slice(0, 1)));
    }

    #[test]
    fn an_incarnation_is_used_once() {
        let mut b = Bindings::new(1);
        b.saw_syn(flow(1), 1, 0);
        assert!(b.bind(slice(0, 5), flow(1), 0).is_ok());
        assert_eq!(b.unbind(slice(0, 4)), None);
        assert_eq!(b.unbind(slice(0, 5)), Some(flow(1)));
        b.saw_syn(flow(1), 1, 0);
        assert!(matches!(b.bind(slice(0, 5), flow(1), 0), Err(BindError::StaleIncarnation { .. })));
        // A slice that moved away and comes back keeps its incarnation; an older one stays out.
        assert!(matches!(b.bind_plugged(slice(0, 4), flow(1)), Err(BindError::StaleIncarnation { .. })));
        assert!(b.bind_plugged(slice(0, 5), flow(1)).is_ok());
    }
}
