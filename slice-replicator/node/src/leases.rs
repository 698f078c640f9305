//! This node's leases: what its guest may allocate from, and what the orchestrator is told about them (T10).

use crate::error::NodeError;
use crate::node::Node;
use escape_abi::HostMessage;
use escape_abi::layout::LEASE_SLOTS;
use escape_engine::node::LeaseUse;
use escape_proto::{LeaseRecord, LeaseState, SliceId, ToOrchestrator};

/// Boots of the guest that one lease generation has room for.
const BOOTS_PER_LEASE: u32 = 256;
/// Reports are made this often, microseconds.
const REPORT_EVERY_US: u64 = 1_000_000;
/// The same while slots run short.
const SHORT_REPORT_EVERY_US: u64 = 50_000;

impl Node {
    /// Is the slot of a lease that this boot of the guest allocates from?
    pub(crate) fn owns_lease_of(&self, id: SliceId) -> bool {
        let offered = |l: &&LeaseRecord| self.offered_generation(l).is_some_and(|g| u64::from(g) == id.inc >> 32);
        self.leases.iter().any(|l| l.lease.0 == id.slot / LEASE_SLOTS && offered(&l))
    }

    /// Upper half of the incarnations that this boot of the guest may give: one that has forgotten its slots never
    /// repeats an id (I9). `None`: too many boots for one lease.
    fn offered_generation(&self, lease: &LeaseRecord) -> Option<u32> {
        (self.boots < BOOTS_PER_LEASE)
            .then(|| lease.generation.checked_mul(BOOTS_PER_LEASE)?.checked_add(self.boots))?
    }

    /// Leases of this node: their memslots are added now, never during a failover.
    pub(crate) fn take_leases(&mut self, leases: Vec<LeaseRecord>) -> Result<(), NodeError> {
        for lease in leases {
            self.vm.add_lease(lease.lease.0 * LEASE_SLOTS)?;
            let mine = Some(lease.holder) == self.me && lease.state == LeaseState::Active;
            self.leases.retain(|l| l.lease != lease.lease);
            if !mine {
                self.spent_leases.remove(lease.lease);
            } else if !self.spent_leases.contains(lease.lease) {
                self.leases.push(lease);
                if self.guest_running {
                    self.offer_lease(&lease);
                }
            }
        }
        Ok(())
    }

    /// Tells a guest that has just come up what it may allocate from.
    pub(crate) fn offer_leases(&mut self) {
        for lease in self.leases.clone() {
            self.offer_lease(&lease);
        }
    }

    fn offer_lease(&mut self, lease: &LeaseRecord) {
        let first_slot = lease.lease.0 * LEASE_SLOTS;
        match self.offered_generation(lease) {
            Some(generation) => {
                self.vm.control().send(HostMessage::Lease { first_slot, generation });
            }
            None => tracing::error!(lease = %lease.lease, boots = self.boots, "no incarnations left in a lease"),
        }
    }

    /// The memslot of the lease that a slot belongs to.
    pub(crate) fn add_lease_of(&mut self, slot: u32) {
        if let Err(error) = self.vm.add_lease(slot / LEASE_SLOTS * LEASE_SLOTS) {
            tracing::warn!(slot, %error, "no memslot for a lease");
        }
    }

    /// Slices of these leases live on elsewhere: their slots are not this guest's to give any more. The store takes the
    /// leases back with the next report.
    pub(crate) fn spend_leases(&mut self) {
        let Self { leases, slices, spent_leases, .. } = self;
        leases.retain(|l| {
            let unused = slots_of(l).all(|slot| slices.at(slot).is_none());
            if !unused {
                spent_leases.insert(l.lease);
            }
            unused
        });
        if leases.is_empty() {
            tracing::info!("no lease is left for new sessions: the next report asks for one");
        }
        self.leases_told_at = 0;
    }

    /// Says which leases this node has something in, and asks for another one before its slots run out.
    pub(crate) fn report_leases(&mut self, now: u64) {
        let since = now.saturating_sub(self.leases_told_at);
        if self.me.is_none() || since < SHORT_REPORT_EVERY_US {
            return;
        }
        let free = self.leases.iter().flat_map(slots_of).filter(|slot| self.slices.at(*slot).is_none()).count();
        let in_use = LeaseUse {
            active: u32::try_from(self.leases.len()).unwrap_or(u32::MAX),
            free_slots: u32::try_from(free).unwrap_or(u32::MAX),
            spent: self.spent_leases.clone(),
        };
        let short = self.engine.wants_lease(&in_use);
        if (short || since >= REPORT_EVERY_US)
            && let Some(report) = self.engine.lease_report(in_use)
        {
            self.leases_told_at = now;
            self.orchestrator.send(&ToOrchestrator::Leases(report));
        }
    }
}

fn slots_of(lease: &LeaseRecord) -> std::ops::Range<u32> {
    lease.lease.0.saturating_mul(LEASE_SLOTS)..lease.lease.0.saturating_add(1).saturating_mul(LEASE_SLOTS)
}
