//! What a node says about leases (T10).

use super::engine::NodeEngine;
use super::owned_group::Stage;
use escape_proto::{LeaseId, LeaseReport, LeaseSet, SliceId, records_mark};

/// What only the caller knows of the node's leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseUse {
    /// Leases that the guest allocates from.
    pub active: u32,
    /// Slots in them that are not in use.
    pub free_slots: u32,
    /// Leases of this node that it does not allocate from any more.
    pub spent: LeaseSet,
}

/// Slots of a lease.
const LEASE_SLOTS: u32 = 64;

impl NodeEngine {
    /// Slots run short: a report is due at once.
    pub const fn wants_lease(&self, in_use: &LeaseUse) -> bool {
        in_use.free_slots < self.config.slots_low
    }

    /// The report that is due now and then. `None`: not now (not in the cell, or the last checkpoints of an old owner are still being applied).
    pub fn lease_report(&self, in_use: LeaseUse) -> Option<LeaseReport> {
        if self.me.is_none() || self.owned.values().any(|g| g.stage == Stage::Applying) {
            return None;
        }
        let mut held = LeaseSet::default();
        let mut hold = |slice: SliceId| held.insert(LeaseId(slice.slot / LEASE_SLOTS));
        self.ledger.iter().for_each(|(slice, _)| hold(slice));
        self.images.iter().filter(|(_, image)| !image.closed).for_each(|(slice, _)| hold(slice));
        self.waiting.slices().for_each(hold);
        let wanted = in_use.active.saturating_add(u32::from(self.wants_lease(&in_use)));
        let spent = in_use.spent;
        Some(LeaseReport { mark: records_mark(self.view.groups()), held, spent, wanted, serves: self.guest_up })
    }
}
