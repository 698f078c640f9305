//! Frames for a guest without receive buffers, oldest first.
//!
//! A frame dropped here costs more than its answer later: what follows it waits out of order in its slice's receive ring, is copied with every
//! checkpoint, and the client sends again. So there is room for what all clients may have under way, and no more for any one of
//! them: a slice has as much as its receive window of small segments, connections that are not known yet share some thousand
//! frames. Full: the newest is dropped; its sender's TCP sends it again.

use std::collections::{HashMap, VecDeque};

/// Frames in all.
const FRAMES_MAX: usize = 65_536;
/// Bytes in all.
const BYTES_MAX: usize = 16 << 20;
/// Frames of one slice.
const FRAMES_PER_SLICE_MAX: u32 = 256;
/// Frames of no slice: first segments.
const FRAMES_OF_NOBODY_MAX: u32 = 2_048;

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct RxBacklog {
    frames: VecDeque<(Option<u32>, Vec<u8>)>,
    bytes: usize,
    /// Frames by slot (`None`: of no slice). Bounded by `frames`.
    of_slot: HashMap<Option<u32>, u32>,
}

impl RxBacklog {
    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame for the slice in a slot, or for none; false: over a bound, dropped.
    pub(crate) fn push(&mut self, slot: Option<u32>, frame: &[u8]) -> bool {
        let of_slot = self.of_slot.entry(slot).or_default();
        let most = if slot.is_some() { FRAMES_PER_SLICE_MAX } else { FRAMES_OF_NOBODY_MAX };
        if *of_slot >= most || self.frames.len() >= FRAMES_MAX || self.bytes + frame.len() > BYTES_MAX {
            return false;
        }
        *of_slot += 1;
        self.bytes += frame.len();
        self.frames.push_back((slot, frame.to_vec()));
        true
    }

    /// The oldest frame.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.frames.front().map(|(_, frame)| frame.as_slice())
    }

    /// Removes the oldest frame.
    pub(crate) fn pop(&mut self) {
        let Some((slot, frame)) = self.frames.pop_front() else { return };
        self.bytes -= frame.len();
        if let Some(of_slot) = self.of_slot.get_mut(&slot) {
            *of_slot -= 1;
            if *of_slot == 0 {
                self.of_slot.remove(&slot);
            }
        }
    }

    /// Drops all of it.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_room_of_others() {
        let mut backlog = RxBacklog::default();
        let taken = (0..1000).filter(|_| backlog.push(Some(1), &[1; 100])).count();
        assert_eq!(taken, FRAMES_PER_SLICE_MAX as usize);
        let taken = (0..5000).filter(|_| backlog.push(None, &[2; 60])).count();
        assert_eq!(taken, FRAMES_OF_NOBODY_MAX as usize);
        assert!(backlog.push(Some(2), &[3; 1500]));
        assert_eq!(backlog.front(), Some(&[1; 100][..]));
        backlog.pop();
        assert!(backlog.push(Some(1), &[4; 100]) && !backlog.push(Some(1), &[4; 100]));
        while !backlog.is_empty() {
            backlog.pop();
        }
        assert_eq!((backlog.bytes, backlog.of_slot.len()), (0, 0));
    }

    #[test]
    fn all_of_it_is_bounded_in_frames_and_bytes() {
        let mut backlog = RxBacklog::default();
        let taken = (0..1000).flat_map(|slot| [slot; 200]).filter(|slot| backlog.push(Some(*slot), &[0; 60])).count();
        assert_eq!(taken, FRAMES_MAX);
        backlog.clear();
        let taken = (0..1000).flat_map(|slot| [slot; 200]).filter(|slot| backlog.push(Some(*slot), &[0; 1500])).count();
        assert_eq!(taken, BYTES_MAX / 1500);
    }
}
