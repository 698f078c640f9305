//! Slices by id: constant time, no allocation in steady state, bounded, and iterated in the same order everywhere.

use escape_proto::SliceId;

const NONE: u32 = u32::MAX;

/// A table of slices, indexed by slot. A slot may have a few incarnations at a time (an old image and its successor).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SliceTable<T> {
    /// Slot → first place of its chain, or `NONE`.
    heads: Vec<u32>,
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place<T> {
    slice: SliceId,
    next: u32,
    value: Option<T>,
}

/// The table has no place for this slice: its slot does not exist, or the slot has too many incarnations already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoPlace;

impl<T> SliceTable<T> {
    /// Slots that a cell may have; a larger slot number is refused.
    pub const SLOTS_MAX: u32 = 65_536;
    /// Incarnations of one slot at a time; a further one is refused.
    pub const PER_SLOT_MAX: usize = 4;

    pub const fn new() -> Self {
        Self { heads: Vec::new(), places: Vec::new(), free: Vec::new() }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub fn get(&self, slice: SliceId) -> Option<&T> {
        let place = self.find(slice)?;
        self.places.get(place as usize)?.value.as_ref()
    }

    pub fn get_mut(&mut self, slice: SliceId) -> Option<&mut T> {
        let place = self.find(slice)?;
        self.places.get_mut(place as usize)?.value.as_mut()
    }

    /// The incarnations of a slot.
    pub fn in_slot(&self, slot: u32) -> impl Iterator<Item = (SliceId, &T)> {
        let places = self.chain(slot).filter_map(|at| self.places.get(at as usize));
        places.filter_map(|p| p.value.as_ref().map(|v| (p.slice, v)))
    }

    /// Could another slice be put into this one's slot?
    pub fn has_place(&self, slice: SliceId) -> bool {
        slice.slot < Self::SLOTS_MAX && self.chain(slice.slot).count() < Self::PER_SLOT_MAX
    }

    /// Puts a slice; replaces its former value.
    pub fn insert(&mut self, slice: SliceId, value: T) -> Result<(), NoPlace> {
        if let Some(old) = self.get_mut(slice) {
            *old = value;
            return Ok(());
        }
        if !self.has_place(slice) {
            return Err(NoPlace);
        }
        let slot = slice.slot as usize;
        if self.heads.len() <= slot {
            self.heads.resize(slot + 1, NONE);
        }
        let Some(head) = self.heads.get_mut(slot) else { return Err(NoPlace) };
        let filled = Place { slice, next: *head, value: Some(value) };
        *head = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.places.get_mut(at as usize) {
                    *place = filled;
                }
                at
            }
            None => {
                let at = u32::try_from(self.places.len()).map_err(|_| NoPlace)?;
                self.places.push(filled);
                at
            }
        };
        Ok(())
    }

    pub fn remove(&mut self, slice: SliceId) -> Option<T> {
        let at = self.find(slice)?;
        let next = self.places.get(at as usize)?.next;
        let head = self.heads.get_mut(slice.slot as usize)?;
        if *head == at {
            *head = next;
        } else {
            let before = self.chain(slice.slot).find(|&p| self.places.get(p as usize).is_some_and(|p| p.next == at))?;
            self.places.get_mut(before as usize)?.next = next;
        }
        self.free.push(at);
        self.places.get_mut(at as usize)?.value.take()
    }

    /// All slices, in an order that depends only on what was done to the table.
    pub fn iter(&self) -> impl Iterator<Item = (SliceId, &T)> {
        self.places.iter().filter_map(|p| p.value.as_ref().map(|v| (p.slice, v)))
    }

    fn find(&self, slice: SliceId) -> Option<u32> {
        self.chain(slice.slot).find(|&at| self.places.get(at as usize).is_some_and(|p| p.slice == slice))
    }

    /// Places of a slot's incarnations, at most [`Self::PER_SLOT_MAX`].
    fn chain(&self, slot: u32) -> impl Iterator<Item = u32> {
        let mut at = self.heads.get(slot as usize).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let place = self.places.get(at as usize)?;
            Some(std::mem::replace(&mut at, place.next))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn behaves_like_a_map_under_random_use() {
        let mut table = SliceTable::new();
        let mut model = BTreeMap::new();
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        for step in 0..20_000u64 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let slice = SliceId { slot: (x >> 8) as u32 % 16, inc: x >> 40 & 3 };
            if x & 1 == 0 {
                table.insert(slice, step).unwrap();
                model.insert(slice, step);
            } else {
                assert_eq!(table.remove(slice), model.remove(&slice), "step {step}");
            }
            assert_eq!(table.len(), model.len());
            assert_eq!(table.get(slice), model.get(&slice));
        }
        let mut all: Vec<_> = table.iter().map(|(s, v)| (s, *v)).collect();
        all.sort_unstable();
        assert_eq!(all, model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn slots_and_incarnations_are_bounded() {
        let mut table = SliceTable::new();
        assert_eq!(table.insert(SliceId { slot: 65_536, inc: 0 }, ()), Err(NoPlace));
        for inc in 0..4 {
            assert_eq!(table.insert(SliceId { slot: 65_535, inc }, ()), Ok(()));
        }
        assert_eq!(table.insert(SliceId { slot: 65_535, inc: 4 }, ()), Err(NoPlace));
        table.remove(SliceId { slot: 65_535, inc: 2 });
        assert_eq!(table.insert(SliceId { slot: 65_535, inc: 4 }, ()), Ok(()));
    }
}
