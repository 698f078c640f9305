//! When the steps of a boot were done.

use crate::clock::now_us;
use serde::{Deserialize, Serialize};

/// A step of a boot, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SoloStep {
    /// The program runs and has read its configuration.
    Configured,
    /// The machine is built: memory, devices, tap, vCPU.
    Built,
    /// The image is loaded and the vCPU runs.
    Started,
    /// The first lease is mapped; the others follow once the guest talks.
    Leased,
    /// The guest says that it takes connections.
    Ready,
    /// The first frame was given to the guest.
    FirstFrameIn,
    /// The guest's first frame was sent.
    FirstFrameOut,
}

/// Microseconds of CLOCK_MONOTONIC, each step once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SoloTimes {
    steps: Vec<(SoloStep, u64)>,
}

impl SoloTimes {
    /// Nothing yet but that the program runs.
    pub fn begin() -> Self {
        Self { steps: vec![(SoloStep::Configured, now_us())] }
    }

    /// A step is done; only the first time counts.
    pub(super) fn done(&mut self, step: SoloStep) {
        if self.at(step).is_none() {
            self.steps.push((step, now_us()));
        }
    }

    /// When a step was done.
    pub fn at(&self, step: SoloStep) -> Option<u64> {
        self.steps.iter().find(|(s, _)| *s == step).map(|(_, at)| *at)
    }

    /// All steps that were done, in the order in which they were.
    pub fn steps(&self) -> &[(SoloStep, u64)] {
        &self.steps
    }
}
