//! Slots that may be given to new slices.

use std::collections::VecDeque;

/// The slot that has been free for longest comes first. Adding and removing take the same time however many there are: after a failure a
/// thousand slices from elsewhere take their slots out of the middle.
#[derive(Debug)]
pub struct FreeSlots {
    /// Slots with the number of their adding, oldest first. An entry counts if it is the slot's last; at most twice as many as slots.
    queue: VecDeque<(u32, u64)>,
    /// The last adding of each slot; 0: it is not free.
    added: Vec<u64>,
    last: u64,
}

impl FreeSlots {
    /// None of so many slots.
    pub fn new(n_slots: u32) -> Self {
        Self { queue: VecDeque::new(), added: vec![0; n_slots as usize], last: 0 }
    }

    /// A slot is free, if it was not.
    pub fn add(&mut self, slot: u32) {
        let Some(added) = self.added.get_mut(slot as usize).filter(|added| **added == 0) else { return };
        self.last += 1;
        *added = self.last;
        self.queue.push_back((slot, self.last));
        if self.queue.len() > 2 * self.added.len() {
            let Self { queue, added, .. } = self;
            queue.retain(|(slot, number)| added.get(*slot as usize) == Some(number));
        }
    }

    /// A slot is taken.
    pub fn remove(&mut self, slot: u32) {
        if let Some(added) = self.added.get_mut(slot as usize) {
            *added = 0;
        }
    }

    /// Takes the slot that has been free for longest.
    pub fn next(&mut self) -> Option<u32> {
        while let Some((slot, number)) = self.queue.pop_front() {
            if self.added.get(slot as usize) == Some(&number) {
                self.remove(slot);
                return Some(slot);
            }
        }
        None
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.added.iter().filter(|added| **added != 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_free_comes_first_whoever_was_taken_in_between() {
        let mut free = FreeSlots::new(8);
        (0..8).for_each(|slot| free.add(slot));
        free.add(3);
        free.add(99);
        free.remove(0);
        free.remove(2);
        free.add(2);
        let all: Vec<u32> = std::iter::from_fn(|| free.next()).collect();
        assert_eq!(all, [1, 3, 4, 5, 6, 7, 2]);
        assert_eq!((free.next(), free.len()), (None, 0));
    }

    #[test]
    fn a_slot_that_comes_and_goes_does_not_fill_memory() {
        let mut free = FreeSlots::new(4);
        (0..4).for_each(|slot| free.add(slot));
        for _ in 0..10_000 {
            free.remove(1);
            free.add(1);
        }
        assert!(free.queue.len() <= 8 && free.len() == 4);
    }
}
