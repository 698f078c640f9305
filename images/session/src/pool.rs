//! The slots that this guest may give away: those of its leases that are free.

use alloc::vec;
use alloc::vec::Vec;
use escape_abi::layout::LEASE_SLOTS;

/// What is known of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Not of our leases, or its slice is elsewhere.
    NotOurs,
    /// On the free list.
    Free,
    /// In use, or its CLOSE is not acknowledged yet.
    Busy,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    /// 0 = not ours.
    generation: u32,
    /// Incarnations given out under this generation.
    count: u32,
}

/// Free slots and the incarnations that they get.
#[derive(Debug)]
pub(crate) struct SlotPool {
    leases: Vec<Lease>,
    uses: Vec<Use>,
    /// May hold slots that are not free any more; at most one entry per slot. Last freed, first used: its lines are warm.
    free: Vec<u32>,
    /// The slot has an entry in `free`.
    listed: Vec<bool>,
}

impl SlotPool {
    pub(crate) fn new(n_slots: u32) -> Self {
        let leases = n_slots.div_ceil(LEASE_SLOTS) as usize;
        let n = n_slots as usize;
        let (uses, listed) = (vec![Use::NotOurs; n], vec![false; n]);
        Self { leases: vec![Lease::default(); leases], uses, free: Vec::new(), listed }
    }

    /// A lease of [`LEASE_SLOTS`] from `first_slot`. Slots that are in use here stay so.
    pub(crate) fn lease(&mut self, first_slot: u32, generation: u32) {
        let Some(lease) = self.leases.get_mut((first_slot / LEASE_SLOTS) as usize) else { return };
        if generation <= lease.generation {
            return;
        }
        *lease = Lease { generation, count: 0 };
        for slot in (first_slot..first_slot.saturating_add(LEASE_SLOTS)).rev() {
            if self.uses.get(slot as usize) == Some(&Use::NotOurs) {
                self.make_free(slot);
            }
        }
    }

    fn make_free(&mut self, slot: u32) {
        self.uses[slot as usize] = Use::Free;
        if !core::mem::replace(&mut self.listed[slot as usize], true) {
            self.free.push(slot);
        }
    }

    /// Takes a free slot and gives it its incarnation.
    pub(crate) fn take(&mut self) -> Option<(u32, u64)> {
        while let Some(slot) = self.free.pop() {
            self.listed[slot as usize] = false;
            let lease = self.leases.get_mut((slot / LEASE_SLOTS) as usize)?;
            if self.uses.get(slot as usize) == Some(&Use::Free) && lease.count < u32::MAX {
                self.uses[slot as usize] = Use::Busy;
                lease.count += 1;
                return Some((slot, u64::from(lease.generation) << 32 | u64::from(lease.count)));
            }
        }
        None
    }

    /// Gives back a slot of which nobody has heard yet.
    pub(crate) fn untake(&mut self, slot: u32) {
        if self.uses.get(slot as usize) == Some(&Use::Busy) {
            self.make_free(slot);
        }
    }

    /// The slot is in use by a slice that was plugged into it.
    pub(crate) fn occupy(&mut self, slot: u32) {
        if let Some(u) = self.uses.get_mut(slot as usize) {
            // Its entry in the free list, if it has one, is passed over when it comes up.
            *u = Use::Busy;
        }
    }

    /// The slice's end is acknowledged: the slot may be used again, if it is of our leases.
    pub(crate) fn release(&mut self, slot: u32) {
        let ours = self.leases.get((slot / LEASE_SLOTS) as usize).is_some_and(|l| l.generation != 0);
        match self.uses.get_mut(slot as usize) {
            Some(Use::Busy) if ours => self.make_free(slot),
            Some(u @ Use::Busy) => *u = Use::NotOurs,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again_only_after_release_and_under_a_new_incarnation() {
        let mut pool = SlotPool::new(128);
        assert_eq!(pool.take(), None);
        pool.lease(64, 3);
        assert_eq!(pool.take(), Some((64, 3 << 32 | 1)));
        for n in 2..=64 {
            assert_eq!(pool.take(), Some((63 + n, 3 << 32 | u64::from(n))));
        }
        assert_eq!(pool.take(), None);
        pool.release(70);
        pool.release(70);
        assert_eq!((pool.take(), pool.take()), (Some((70, 3 << 32 | 65)), None));
        pool.occupy(5); // plugged: a slot of somebody else's lease
        pool.release(5);
        assert_eq!(pool.take(), None);
        pool.release(90);
        pool.occupy(90); // plugged into a free slot of ours
        assert_eq!(pool.take(), None);
        pool.release(90);
        assert_eq!((pool.take(), pool.take()), (Some((90, 3 << 32 | 66)), None));
        pool.lease(64, 4);
        pool.lease(64, 3);
        pool.release(80);
        assert_eq!(pool.take(), Some((80, 4 << 32 | 1)));
    }
}
