//! Events of orchestrator and edge, as lines of JSON.

use crate::drill::{EventKind, Mishap, MishapKind, Noticed, TimelineEvent};
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, Instant};

/// One line.
#[derive(Clone, Debug, Deserialize)]
pub struct ProcessEvent {
    /// CLOCK_MONOTONIC, microseconds.
    pub t_us: u64,
    /// What.
    pub event: String,
    /// About which node.
    pub node: Option<u16>,
    /// The rest.
    #[serde(default)]
    pub detail: Value,
}

impl ProcessEvent {
    /// A field of the detail.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.detail.get(key)?.as_u64()
    }

    /// The mishap that it is, if it is one.
    pub fn to_mishap(&self, clock: &Clock) -> Option<Mishap> {
        let what = match self.event.as_str() {
            "dead" => MishapKind::Dead(self.node?),
            "lost" => MishapKind::Lost(self.number("group")?),
            "claimed" => MishapKind::Claimed(self.number("group")?),
            "quarantined" => {
                let cause = self.detail.get("cause").and_then(Value::as_str).unwrap_or_default();
                MishapKind::Quarantined { node: self.node?, cause: cause.into() }
            }
            _ => return None,
        };
        Some(Mishap { at: clock.instant(self.t_us), what })
    }

    /// The step of a failover that it is, if it is one.
    pub fn to_timeline(&self, clock: &Clock) -> Option<TimelineEvent> {
        let event = match self.event.as_str() {
            "suspected" | "guest-down" => EventKind::Suspected,
            "epoch-raised" => EventKind::EpochRaised,
            "gate-closed" => EventKind::GateClosed,
            "flipped" => EventKind::Flipped,
            "first-plugged" => EventKind::FirstPlugged,
            "last-plugged" => EventKind::LastPlugged,
            _ => return None,
        };
        let by = match self.detail.get("by").and_then(Value::as_str) {
            Some("orchestrator") => Noticed::Orchestrator,
            Some("node") => Noticed::Standby(self.number("node").and_then(|n| u16::try_from(n).ok())?),
            _ => Noticed::Unknown,
        };
        Some(TimelineEvent { at: clock.instant(self.t_us), event, node: self.node?, by })
    }
}

/// Both clocks of this program at one moment: `Instant` and CLOCK_MONOTONIC are the same clock, which `Instant` hides.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    instant: Instant,
    us: u64,
}

impl Clock {
    /// Reads both.
    pub fn now() -> Self {
        Self { us: escape_node::now_us(), instant: Instant::now() }
    }

    /// The `Instant` of a monotonic time.
    pub fn instant(&self, us: u64) -> Instant {
        if us >= self.us {
            self.instant + Duration::from_micros(us - self.us)
        } else {
            self.instant.checked_sub(Duration::from_micros(self.us - us)).unwrap_or(self.instant)
        }
    }
}
