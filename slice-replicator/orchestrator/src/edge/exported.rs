//! The edge's counters under the names of the table of metrics.

use super::process::EdgeProcess;
use super::steering::Steering;
use crate::error::ProcessError;
use escape_fabric::arp::ArpCounters;
use escape_fabric::fabric::{FabricCounters, FabricError};
use escape_link::ListenerCounters;
use escape_metrics::{Metric, Reading};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two readings for whoever asks: each asks the kernel for its tables' counters.
const METRICS_EVERY: Duration = Duration::from_secs(1);

/// What the process counts beside the kernel's tables.
#[derive(Clone, Copy, Debug, Default)]
struct OwnCounters {
    arp: ArpCounters,
    events_dropped: u64,
    listener: ListenerCounters,
}

/// What is known of one node beside its frames.
#[derive(Clone, Copy, Debug, Default)]
struct NodeCounters {
    groups: u64,
    passed_after_deposed: u64,
}

impl EdgeProcess {
    /// Tells the metrics' thread what there is to tell, if somebody may ask and nothing more urgent waits.
    pub(super) fn publish_metrics(&mut self, now: Instant) -> Result<(), ProcessError> {
        let Some(server) = &self.metrics else { return Ok(()) };
        if self.more || now.duration_since(self.told) < METRICS_EVERY {
            return Ok(());
        }
        self.told = now;
        let own = OwnCounters {
            arp: self.arp.counters(),
            events_dropped: self.log.dropped_in_all(),
            listener: self.listener.counters(),
        };
        server.publish(reading(&mut self.steering, &own)?);
        Ok(())
    }
}

/// Everything to be told. While a former edge's tables are in force there are no figures of the fabric.
fn reading(steering: &mut Steering, own: &OwnCounters) -> Result<Reading, FabricError> {
    let mut to = Reading::default();
    if let Some(fabric) = steering.counters()? {
        let nodes = fabric.sent.keys().map(|node| {
            let passed_after_deposed = steering.deposed().passed(*node, &fabric.sent).unwrap_or_default();
            (*node, NodeCounters { groups: steering.groups_of(*node) as u64, passed_after_deposed })
        });
        add_fabric(&fabric, &nodes.collect(), &mut to);
        to.count_of(Metric::EdgeArp, "seen", fabric.arp);
    }
    to.count(Metric::EdgeFlowChanges, steering.backlog().len() as u64);
    to.count(Metric::EdgeFlowChangesDropped, steering.backlog().dropped());
    add_own(own, &mut to);
    Ok(to)
}

fn add_own(own: &OwnCounters, to: &mut Reading) {
    for (fate, count) in [
        ("answered", own.arp.answered),
        ("limited", own.arp.limited),
        ("malformed", own.arp.malformed),
        ("conflict", own.arp.conflicts),
        ("unsent", own.arp.unsent),
    ] {
        to.count_of(Metric::EdgeArp, fate, count);
    }
    to.count(Metric::EventsDropped, own.events_dropped);
    own.listener.outcomes().into_iter().for_each(|(how, count)| to.count_of(Metric::LinkHandshakes, how, count));
}

fn add_fabric(fabric: &FabricCounters, nodes: &BTreeMap<u16, NodeCounters>, to: &mut Reading) {
    fabric.sent.iter().for_each(|(node, n)| to.count_of(Metric::EdgeFramesSent, node.to_string(), *n));
    fabric.dropped.iter().for_each(|(node, n)| to.count_of(Metric::EdgeFramesDropped, node.to_string(), *n));
    for (node, counters) in nodes {
        to.count_of(Metric::EdgeGroups, node.to_string(), counters.groups);
        to.count_of(Metric::EdgePassedAfterDeposed, node.to_string(), counters.passed_after_deposed);
    }
    to.count(Metric::EdgeSteered, fabric.steered);
    to.count(Metric::EdgeMirrored, fabric.mirrored);
    to.count(Metric::EdgePlaced, fabric.placed);
    for (cause, count) in [
        ("no_owner", fabric.no_owner),
        ("no_bucket", fabric.no_bucket),
        ("flows_full", fabric.flows_full),
        ("unknown_flow", fabric.unknown_flow),
        ("wrong_port", fabric.wrong_port),
        ("not_service", fabric.not_service),
        ("icmp", fabric.icmp),
        ("fragment", fabric.fragment),
        ("not_tcp", fabric.not_tcp),
        ("other", fabric.other),
    ] {
        to.count_of(Metric::EdgeRefused, cause, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_metrics::{Part, TABLE};
    use std::collections::BTreeSet;

    #[test]
    fn an_edge_tells_every_metric_of_its_part_and_no_other() {
        let fabric = FabricCounters {
            sent: BTreeMap::from([(1, 2)]),
            dropped: BTreeMap::from([(1, 3)]),
            ..FabricCounters::default()
        };
        let mut to = Reading::default();
        add_fabric(&fabric, &BTreeMap::from([(1, NodeCounters::default())]), &mut to);
        add_own(&OwnCounters::default(), &mut to);
        let mut told: BTreeSet<Metric> = to.metrics().collect();
        // Told of the steering, which needs the kernel's tables.
        told.extend([Metric::EdgeFlowChanges, Metric::EdgeFlowChangesDropped]);
        let own = [Metric::ProcessCpu, Metric::ProcessResident];
        let wanted = TABLE.iter().filter(|line| line.parts.contains(&Part::Edge) && !own.contains(&line.metric));
        assert_eq!(told, wanted.map(|line| line.metric).collect());
    }
}
