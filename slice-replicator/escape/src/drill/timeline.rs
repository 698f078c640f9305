//! What happened, in order, counted from the fault.

use std::time::Instant;

use serde::{Deserialize, Serialize, Serializer};

/// A step from the fault to the end of its consequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The fault happened.
    Fault,
    /// A standby or the orchestrator suspects the node; a failover needs both.
    Suspected,
    /// The store has the new owner and the higher epoch.
    EpochRaised,
    /// The new owner queues input for its new slices.
    GateClosed,
    /// The edge steers the flows to the new owner.
    Flipped,
    /// The first slice is plugged.
    FirstPlugged,
    /// The last slice is plugged.
    LastPlugged,
    /// A client of the failed node has its first right byte.
    FirstByte,
    /// Every slice has a standby again.
    Reprotected,
    /// The fault is over for the node: continued, links restored, or started anew.
    Healed,
}

impl EventKind {
    /// Whether the cell itself notices it while it fails over.
    pub const fn is_of_a_failover(self) -> bool {
        !matches!(self, Self::Fault | Self::FirstByte | Self::Reprotected | Self::Healed)
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Suspected => "suspected",
            Self::EpochRaised => "epoch raised",
            Self::GateClosed => "gate closed",
            Self::Flipped => "flipped",
            Self::FirstPlugged => "first slice plugged",
            Self::LastPlugged => "last slice plugged",
            Self::FirstByte => "first byte at a client",
            Self::Reprotected => "protected again",
            Self::Healed => "node healed",
        }
    }
}

/// Something that the cell noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineEvent {
    /// When, on CLOCK_MONOTONIC of this machine.
    pub at: Instant,
    /// What.
    pub event: EventKind,
    /// Who: the node that failed (fault, suspected, healed), took over, or was served by.
    pub node: u16,
    /// Who noticed it, for `Suspected`; empty otherwise.
    pub by: Noticed,
}

/// Who noticed a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Noticed {
    /// Not told.
    #[default]
    Unknown,
    /// The orchestrator: no heartbeat, or one without progress.
    Orchestrator,
    /// A standby of the node.
    Standby(u16),
}

/// A step as it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Milliseconds since the fault.
    #[serde(serialize_with = "three_digits")]
    pub t_ms: f64,
    /// What.
    pub event: EventKind,
    /// Which node; none where it is another part of the cell.
    pub node: Option<u16>,
}

/// Microseconds are all that is measured: more digits would only look precise.
pub(super) fn three_digits<S: Serializer>(ms: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((ms * 1_000.0).round() / 1_000.0)
}

/// The steps of one fault.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// In order of time; the fault is the first.
    pub steps: Vec<Step>,
    /// From the fault until orchestrator and standby both suspected the node; none if no failover followed.
    pub detect_ms: Option<f64>,
    /// Who made up the suspicion, in order.
    pub detected_by: Option<String>,
}

impl Timeline {
    /// Orders what the cell noticed from the fault at `fault` of `nodes` on (none: of another part of the cell).
    pub fn of(fault: Instant, nodes: &[u16], events: &[TimelineEvent]) -> Self {
        let mut after: Vec<&TimelineEvent> = events.iter().filter(|event| event.at >= fault).collect();
        after.sort_by_key(|event| (event.at, event.event));
        let mut steps = vec![Step { t_ms: 0.0, event: EventKind::Fault, node: nodes.first().copied() }];
        let shown = after.iter().filter(|event| event.event != EventKind::Fault);
        let step = |event: &&TimelineEvent| Step {
            t_ms: ms_since(fault, event.at),
            event: event.event,
            node: Some(event.node),
        };
        steps.extend(shown.map(step));
        // An orchestrator that ends before it can tell of the new epoch leaves that to the new owner's gate.
        let raises = |event: &&&TimelineEvent| matches!(event.event, EventKind::EpochRaised | EventKind::GateClosed);
        let raised = after.iter().find(raises).map(|event| event.at);
        let suspicions: Vec<&&TimelineEvent> = after
            .iter()
            .filter(|event| event.event == EventKind::Suspected && nodes.contains(&event.node))
            .filter(|event| raised.is_some_and(|raised| event.at <= raised))
            .collect();
        let detect_ms = suspicions.last().map(|last| ms_since(fault, last.at));
        let names: Vec<String> = suspicions.iter().map(|event| event.by.to_string()).collect();
        let detected_by = (!names.is_empty()).then(|| names.join(", "));
        Self { steps, detect_ms, detected_by }
    }

    /// When the first of the groups got its new owner, milliseconds since the fault.
    pub fn raised_ms(&self) -> Option<f64> {
        let raises = |step: &&Step| matches!(step.event, EventKind::EpochRaised | EventKind::GateClosed);
        self.steps.iter().find(raises).map(|step| step.t_ms)
    }

    /// Groups that got a new owner.
    pub fn handed_over(&self) -> usize {
        self.steps.iter().filter(|step| step.event == EventKind::EpochRaised).count()
    }

    /// Adds a step, keeping the order.
    pub fn add(&mut self, step: Step) {
        let place = self.steps.partition_point(|other| other.t_ms <= step.t_ms);
        self.steps.insert(place, step);
    }
}

impl std::fmt::Display for Noticed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Orchestrator => f.write_str("orchestrator"),
            Self::Standby(node) => write!(f, "standby {node}"),
        }
    }
}

fn ms_since(fault: Instant, at: Instant) -> f64 {
    at.saturating_duration_since(fault).as_secs_f64() * 1e3
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(origin: Instant, ms: u64, event: EventKind, node: u16, by: Noticed) -> TimelineEvent {
        TimelineEvent { at: origin + Duration::from_millis(ms), event, node, by }
    }

    #[test]
    fn detection_is_the_last_suspicion_before_the_epoch_was_raised() {
        let origin = Instant::now();
        let fault = origin + Duration::from_millis(100);
        let events = [
            event(origin, 114, EventKind::EpochRaised, 2, Noticed::Unknown),
            event(origin, 112, EventKind::Suspected, 1, Noticed::Standby(2)),
            event(origin, 110, EventKind::Suspected, 1, Noticed::Orchestrator),
            event(origin, 90, EventKind::Suspected, 1, Noticed::Standby(3)),
            event(origin, 111, EventKind::Suspected, 2, Noticed::Standby(3)),
            event(origin, 120, EventKind::Suspected, 1, Noticed::Standby(3)),
        ];
        let timeline = Timeline::of(fault, &[1], &events);
        assert_eq!(timeline.detect_ms.unwrap().round(), 12.0);
        assert_eq!(timeline.detected_by.unwrap(), "orchestrator, standby 2");
        assert_eq!(timeline.steps.len(), 6, "what lies before the fault belongs to another");
        assert!(timeline.steps.windows(2).all(|pair| pair[0].t_ms <= pair[1].t_ms));
    }

    #[test]
    fn without_a_failover_nothing_was_detected() {
        let origin = Instant::now();
        let timeline = Timeline::of(origin, &[1], &[event(origin, 5, EventKind::Suspected, 1, Noticed::Orchestrator)]);
        assert_eq!(timeline.detect_ms, None);
    }
}
