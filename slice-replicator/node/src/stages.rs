//! Where a request's time goes in this node: one histogram per step of the commit path.
//!
//! The steps of one request follow each other exactly when requests come one at a time; under load `guest` pairs the
//! latest input with the next output and is only an estimate.

use crate::micro_histogram::MicroHistogram;
use serde_json::{Value, json};

/// Times of the steps, microseconds.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    /// A frame was given to the guest → its next output was taken.
    guest: MicroHistogram,
    /// Output taken → its checkpoint staged for the standby.
    capture: MicroHistogram,
    /// Checkpoint staged → acknowledged.
    commit: MicroHistogram,
    /// Oldest output of a checkpoint taken → released.
    hold: MicroHistogram,
    /// As a standby: checkpoint read from the link → acknowledgement staged.
    apply: MicroHistogram,
    given_at: Option<u64>,
}

/// When output was held and when its checkpoint was staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The oldest frame that waited for the capture, if one did.
    pub(crate) held_at: Option<u64>,
    /// The capture's end.
    pub(crate) staged_at: u64,
}

impl Stages {
    /// The guest got a frame.
    pub(crate) const fn given(&mut self, now: u64) {
        self.given_at = Some(now);
    }

    /// The guest's output was taken.
    pub(crate) fn output(&mut self, now: u64) {
        if let Some(at) = self.given_at.take() {
            self.guest.record(now.saturating_sub(at));
        }
    }

    /// A checkpoint was staged.
    pub(crate) fn staged(&mut self, marks: Marks) {
        if let Some(at) = marks.held_at {
            self.capture.record(marks.staged_at.saturating_sub(at));
        }
    }

    /// A checkpoint was acknowledged.
    pub(crate) fn acknowledged(&mut self, marks: Marks, now: u64) {
        self.commit.record(now.saturating_sub(marks.staged_at));
    }

    /// The output of a checkpoint was released.
    pub(crate) fn released(&mut self, marks: Marks, now: u64) {
        if let Some(at) = marks.held_at {
            self.hold.record(now.saturating_sub(at));
        }
    }

    /// A checkpoint was applied and its acknowledgement staged.
    pub(crate) fn applied(&mut self, us: u64) {
        self.apply.record(us);
    }

    /// All histograms; they begin anew.
    pub(crate) fn take(&mut self) -> Value {
        json!({
            "guest": self.guest.take(),
            "capture": self.capture.take(),
            "commit": self.commit.take(),
            "hold": self.hold.take(),
            "apply": self.apply.take(),
        })
    }
}
