//! Deadlines of all slices: one heap entry per slot at most.
//!
//! A deadline that moves to later is not moved: its entry fires early, the owner looks, and arms anew. So the usual case, a
//! retransmission timer that moves on with every reply, costs nothing.

use alloc::vec;
use alloc::vec::Vec;

/// Entry in the heap, no entry.
const NOWHERE: u32 = u32::MAX;

/// A binary heap whose entries know their place.
#[derive(Debug)]
pub(crate) struct Timers {
    /// (deadline in guest time, slot); the least is first. At most one entry per slot.
    heap: Vec<(i64, u32)>,
    /// Where each slot's entry is.
    place: Vec<u32>,
}

impl Timers {
    pub(crate) fn new(n_slots: u32) -> Self {
        Self { heap: Vec::new(), place: vec![NOWHERE; n_slots as usize] }
    }

    /// The slot is looked at no later than `at`.
    pub(crate) fn arm(&mut self, slot: u32, at: i64) {
        let Some(place) = self.place.get(slot as usize).copied() else { return };
        if place == NOWHERE {
            self.heap.push((at, slot));
            self.up(self.heap.len() - 1);
        } else if at < self.heap[place as usize].0 {
            self.heap[place as usize].0 = at;
            self.up(place as usize);
        }
    }

    /// The slot has no deadline any more.
    pub(crate) fn disarm(&mut self, slot: u32) {
        let Some(place) = self.place.get(slot as usize).copied().filter(|p| *p != NOWHERE) else { return };
        let at = place as usize;
        self.heap.swap_remove(at);
        self.place[slot as usize] = NOWHERE;
        if at < self.heap.len() {
            self.down(at);
            self.up(at);
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<i64> {
        self.heap.first().map(|e| e.0)
    }

    /// Takes out a slot whose deadline has come.
    pub(crate) fn pop_due(&mut self, now: i64) -> Option<u32> {
        let (at, slot) = *self.heap.first()?;
        if at > now {
            return None;
        }
        self.disarm(slot);
        Some(slot)
    }

    fn put(&mut self, at: usize, entry: (i64, u32)) {
        self.heap[at] = entry;
        self.place[entry.1 as usize] = at as u32;
    }

    fn up(&mut self, mut at: usize) {
        let entry = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent] <= entry {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, entry);
    }

    fn down(&mut self, mut at: usize) {
        let entry = self.heap[at];
        loop {
            let mut child = 2 * at + 1;
            if child + 1 < self.heap.len() && self.heap[child + 1] < self.heap[child] {
                child += 1;
            }
            if child >= self.heap.len() || self.heap[child] >= entry {
                break;
            }
            self.put(at, self.heap[child]);
            at = child;
        }
        self.put(at, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn agrees_with_a_sorted_map() {
        let mut timers = Timers::new(64);
        let mut model: BTreeMap<u32, i64> = BTreeMap::new();
        let mut x = 7u64;
        for _ in 0..50_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (slot, at) = ((x >> 40) as u32 % 64, (x >> 33) as i64 % 1000);
            match x >> 60 {
                0..10 => {
                    timers.arm(slot, at);
                    let e = model.entry(slot).or_insert(at);
                    *e = at.min(*e);
                }
                10..13 => {
                    timers.disarm(slot);
                    model.remove(&slot);
                }
                _ => {
                    let least = model.values().min().copied();
                    assert_eq!(timers.next(), least);
                    if let Some(slot) = timers.pop_due(500) {
                        assert_eq!(model.remove(&slot), least);
                    } else {
                        assert!(least.is_none_or(|l| l > 500));
                    }
                }
            }
        }
    }
}
