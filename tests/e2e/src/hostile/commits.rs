//! Frames → hold → capture → apply → release. The standby is in the same process and acknowledges at once.

use super::host::Host;
use escape_vmm::commit::{Capture, SliceId, Verdict};

/// Frames taken per turn.
const FRAMES_PER_TURN_MAX: usize = 256;
/// Captures per turn.
const CAPTURES_PER_TURN_MAX: usize = 256;

impl Host {
    /// Takes the guest's frames: each is copied once, classified, and held or dropped.
    pub(super) fn take_frames(&mut self) {
        for _ in 0..FRAMES_PER_TURN_MAX {
            if self.vm.net().take_tx(&mut self.frame).is_none() {
                return;
            }
            self.take_messages();
            let now = self.now();
            match self.valve.submit(&self.frame, self.vm.slots(), now) {
                Verdict::Send | Verdict::PassUnprotected => self.released.push(self.frame.to_vec()),
                // An opening is of guests whose kernel has the connections.
                Verdict::Held { .. } | Verdict::Opening { .. } | Verdict::Dropped(_) => {}
            }
            if let Some((slice, breach)) = self.valve.take_breached() {
                self.give_up(slice, format!("I1: {breach}"));
            }
        }
    }

    /// Captures slices that have output waiting.
    pub(super) fn capture_waiting(&mut self) {
        let mut referenced = Vec::new();
        for _ in 0..CAPTURES_PER_TURN_MAX {
            let Some(slice) = self.valve.next_waiting() else { break };
            if !self.capture(slice) {
                referenced.push(slice);
            }
        }
        for slice in referenced {
            self.valve.want_capture(slice);
        }
    }

    /// False: the slot is referenced; try again soon.
    fn capture(&mut self, slice: SliceId) -> bool {
        let begun = std::time::Instant::now();
        let clock_from = self.now();
        let clock = || clock_from + u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let Self { capturer, vm, shadows, standby, .. } = self;
        let captured = match capturer.capture(slice, vm.slots(), shadows, &clock) {
            Ok(Capture::Captured(captured)) => captured,
            Ok(Capture::Unchanged { generation }) => {
                self.valve.note_captured(slice, generation);
                return true;
            }
            Ok(Capture::Referenced) => return false,
            Err(error) => {
                self.give_up(slice, error.to_string());
                return true;
            }
        };
        let coverage = captured.coverage;
        let applied = standby.apply(slice, &captured.checkpoint, captured.body);
        assert!(applied.is_ok(), "a captured checkpoint must be applicable: {applied:?}");
        self.valve.note_captured(slice, coverage.generation);
        let Self { valve, released, .. } = self;
        let done = valve.release(slice.slot, &coverage, &mut |frame| released.push(frame.to_vec()));
        if let Some(breach) = done.breach {
            self.give_up(slice, format!("I1: {breach}"));
        }
        true
    }
}
