//! References: the slot word protocol, guest side (see [`escape_abi::SlotWord`]).

use crate::SliceError;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use escape_abi::SlotWord;

/// The slot words and holds in the control pages.
#[derive(Clone, Copy, Debug)]
pub struct SlotRefs {
    words: *const AtomicU64,
    holds: *const AtomicU32,
    n_slots: u32,
}

impl SlotRefs {
    /// The tables of `n_slots` slots.
    ///
    /// # Safety
    /// Both pointers must be aligned and valid for `n_slots` elements as long as this value or a copy of it is used, and everybody
    /// else, the host included, may access the elements only atomically.
    pub const unsafe fn new(words: *const AtomicU64, holds: *const AtomicU32, n_slots: u32) -> Self {
        Self { words, holds, n_slots }
    }

    /// Slots of the arena.
    pub const fn n_slots(&self) -> u32 {
        self.n_slots
    }

    fn tables(&self, slot: u32) -> Option<(&AtomicU64, &AtomicU32)> {
        if slot >= self.n_slots {
            return None;
        }
        // SAFETY: `slot` is below `n_slots`, for which `new`'s caller vouches; atomics may be shared.
        Some(unsafe { (&*self.words.add(slot as usize), &*self.holds.add(slot as usize)) })
    }

    /// The slot's word now; that of a slot beyond the arena is 0.
    pub fn word(&self, slot: u32) -> SlotWord {
        SlotWord(self.tables(slot).map_or(0, |(word, _)| word.load(Ordering::Acquire)))
    }

    /// Takes a reference. Several layers may hold references to one slice at once.
    ///
    /// # Errors
    /// [`SliceError::Held`] if the host holds the slot and no reference is out yet. (Within an interval more references may be
    /// taken in spite of a hold: refusing them could only prolong it.) Also if 65,535 references are out, or for no slot of the arena.
    pub fn get_ref(&self, slot: u32) -> Result<(), SliceError> {
        let (word, hold) = self.tables(slot).ok_or(SliceError::Held { slot })?;
        let before = SlotWord(word.load(Ordering::Relaxed));
        if before.refs() == u16::MAX {
            return Err(SliceError::Held { slot });
        }
        // Store (the reference) before load (the hold): the host does the reverse, so one of us sees the other.
        word.fetch_add(1, Ordering::SeqCst);
        if before.quiescent() && hold.load(Ordering::SeqCst) != 0 {
            word.fetch_sub(1, Ordering::SeqCst);
            return Err(SliceError::Held { slot });
        }
        Ok(())
    }

    /// Puts a reference back. If it is the last one, `publish` is called first, then the generation moves on by one.
    pub fn put_ref(&self, slot: u32, publish: impl FnOnce()) {
        let Some((word, _)) = self.tables(slot) else { return };
        let mut now = SlotWord(word.load(Ordering::Relaxed));
        if now.refs() == 1 {
            publish();
        }
        loop {
            let next = match now.refs() {
                0 => return, // a reference that was never taken
                1 => now.released(),
                _ => SlotWord(now.0 - 1),
            };
            // Release: who sees the new generation sees all of it.
            match word.compare_exchange_weak(now.0, next.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => now = SlotWord(other),
            }
        }
    }

    /// Drops all references of a slot whose slice is lost (poisoned); the generation stays, for this was no consistent cut.
    /// Only when the host has given the slice up, or it would take torn bytes for the old generation.
    pub fn forget_refs(&self, slot: u32) {
        if let Some((word, _)) = self.tables(slot) {
            let now = SlotWord(word.load(Ordering::Relaxed));
            word.store(SlotWord::new(now.generation(), 0).0, Ordering::Release);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    extern crate std;

    #[test]
    fn generation_moves_with_the_last_reference_only() {
        let (words, holds) = ([AtomicU64::new(0), AtomicU64::new(0)], [AtomicU32::new(0), AtomicU32::new(0)]);
        // SAFETY: the arrays outlive `refs` and are used atomically only.
        let refs = unsafe { SlotRefs::new(words.as_ptr(), holds.as_ptr(), 2) };
        let mut published = 0;
        refs.get_ref(1).unwrap();
        refs.get_ref(1).unwrap();
        refs.put_ref(1, || published += 1);
        assert_eq!((refs.word(1), published), (SlotWord::new(0, 1), 0));
        holds[1].store(1, Ordering::SeqCst);
        refs.get_ref(1).unwrap(); // within the interval
        refs.put_ref(1, || published += 1);
        refs.put_ref(1, || published += 1);
        assert_eq!((refs.word(1), published), (SlotWord::new(1, 0), 1));
        assert_eq!(refs.get_ref(1), Err(SliceError::Held { slot: 1 }));
        assert_eq!(refs.word(1), SlotWord::new(1, 0));
        refs.put_ref(1, || published += 1);
        assert_eq!((refs.word(1), refs.word(0), published), (SlotWord::new(1, 0), SlotWord(0), 1));
        assert!(refs.get_ref(2).is_err());
    }

    /// The promise that capture rests on: with a hold set, either the host sees the reference or the guest sees the hold.
    #[test]
    fn hold_and_reference_never_miss_each_other() {
        let (words, holds) = ([AtomicU64::new(0)], [AtomicU32::new(0)]);
        let inside = AtomicU32::new(0);
        std::thread::scope(|s| {
            let (words, holds, inside) = (&words, &holds, &inside);
            let guest = s.spawn(move || {
                // SAFETY: as above.
                let refs = unsafe { SlotRefs::new(words.as_ptr(), holds.as_ptr(), 1) };
                for _ in 0..200_000 {
                    if refs.get_ref(0).is_ok() {
                        inside.fetch_add(1, Ordering::Relaxed);
                        refs.put_ref(0, || {
                            inside.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                }
            });
            while !guest.is_finished() {
                holds[0].store(1, Ordering::SeqCst);
                if SlotWord(words[0].load(Ordering::SeqCst)).quiescent() {
                    let before = inside.load(Ordering::Acquire);
                    for _ in 0..20 {
                        core::hint::spin_loop();
                    }
                    assert_eq!(before, inside.load(Ordering::Acquire), "a slice moved although it was held");
                }
                holds[0].store(0, Ordering::SeqCst);
            }
        });
    }
}
