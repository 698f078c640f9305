//! The node's counters under the names of the table of metrics.

use crate::metrics::NodeMetrics;
use crate::node::Node;
use crate::traffic::Traffic;
use escape_link::ListenerCounters;
use escape_metrics::{Metric, Reading};
use escape_proto::SliceCounts;
use escape_vmm::VmMetrics;
use escape_vmm::commit::{CaptureMetrics, DropCause, ImageMetrics, IngressMetrics, TombstoneMetrics, ValveMetrics};
use std::sync::atomic::Ordering;

/// Causes for which the valve drops frames, as they are told.
const DROP_CAUSES: [(DropCause, &str); DropCause::COUNT] = [
    (DropCause::Unparsable, "unparsable"),
    (DropCause::Unbound, "unbound"),
    (DropCause::Unprotected, "unprotected"),
    (DropCause::Spoofed, "spoofed"),
    (DropCause::Quarantined, "quarantined"),
    (DropCause::SliceQuota, "slice_quota"),
    (DropCause::VmQuota, "vm_quota"),
    (DropCause::EndingQuota, "ending_quota"),
    (DropCause::Duplicate, "duplicate"),
    (DropCause::Horizon, "horizon"),
    (DropCause::NoSlot, "no_slot"),
];

/// Everything that a node counts.
#[derive(Clone, Debug, Default)]
struct Sources {
    counts: SliceCounts,
    groups: u64,
    unpaired: u64,
    guest_running: bool,
    node: NodeMetrics,
    traffic: Traffic,
    valve: ValveMetrics,
    capture: CaptureMetrics,
    images: ImageMetrics,
    ingress: IngressMetrics,
    tombstones: TombstoneMetrics,
    listener: ListenerCounters,
    heartbeats_forged: u64,
    vm: VmMetrics,
}

impl Node {
    /// Tells the metrics' thread what there is to tell, if somebody may ask.
    pub(crate) fn publish_metrics(&self, counts: &SliceCounts) {
        if let Some(server) = &self.metrics_server {
            server.publish(self.sources(*counts).reading());
        }
    }

    /// All counters at this moment.
    pub(crate) fn reading(&self) -> Reading {
        self.sources(self.counts(self.now())).reading()
    }

    fn sources(&self, counts: SliceCounts) -> Sources {
        Sources {
            counts,
            groups: self.engine.group_records().filter(|r| Some(r.owner) == self.me).count() as u64,
            unpaired: self.unpaired_groups() as u64,
            guest_running: self.guest_running,
            node: self.metrics,
            traffic: self.peers.traffic(),
            valve: *self.valve.metrics(),
            capture: *self.capturer.metrics(),
            images: *self.images.metrics(),
            ingress: *self.ingress.metrics(),
            tombstones: *self.tombstones.metrics(),
            listener: self.listener.counters(),
            heartbeats_forged: self.heartbeat.pulse().forged.load(Ordering::Relaxed),
            vm: self.vm.metrics(),
        }
    }
}

impl Sources {
    fn reading(&self) -> Reading {
        let mut reading = Reading::default();
        self.add_state(&mut reading);
        self.add_node(&mut reading);
        self.add_links(&mut reading);
        self.add_valve(&mut reading);
        self.add_capture(&mut reading);
        self.add_standby(&mut reading);
        self.add_vm(&mut reading);
        reading
    }

    fn add_state(&self, to: &mut Reading) {
        let counts = &self.counts;
        let states = [("protected", counts.protected), ("solo", counts.solo), ("standby", counts.standby)];
        series(to, Metric::NodeSlices, states.map(|(state, slices)| (state, u64::from(slices))));
        series(to, Metric::NodeGroups, [("owned", self.groups), ("unpaired", self.unpaired)]);
        to.count(Metric::NodeGuestRunning, u64::from(self.guest_running));
        to.count(Metric::NodeHeldFrames, u64::from(counts.held_frames));
        to.micros(Metric::NodeHeldAge, counts.held_age_us);
    }

    fn add_node(&self, to: &mut Reading) {
        let node = &self.node;
        for (metric, value) in [
            (Metric::NodeTurns, node.turns),
            (Metric::NodeCheckpoints, node.checkpoints),
            (Metric::NodeCheckpointBytes, node.checkpoint_bytes),
            (Metric::NodeFullCopies, node.full_copies),
            (Metric::NodeFullCopyBytes, node.full_copy_bytes),
            (Metric::NodeBulkPauses, node.bulk_pauses),
            (Metric::NodeApplied, node.applied),
            (Metric::NodeRefused, node.refused),
            (Metric::NodeReleased, node.released),
            (Metric::NodeTapWriteFailed, node.tap_write_failed),
            (Metric::NodeQuarantined, node.quarantined),
            (Metric::NodeGuestDown, node.guest_down),
            (Metric::NodeBindingsRefused, node.bindings_refused),
            (Metric::NodeBeforeGate, node.before_gate),
        ] {
            to.count(metric, value);
        }
        let fates =
            [("gated", node.gated), ("syn_not_owned", node.syn_not_owned), ("rx_backlog_full", node.rx_backlog_full)];
        series(to, Metric::NodeInbound, fates);
    }

    fn add_links(&self, to: &mut Reading) {
        let traffic = &self.traffic;
        series(to, Metric::LinkMessages, [("out", traffic.messages_out), ("in", traffic.messages_in)]);
        series(to, Metric::LinkBytes, [("out", traffic.bytes_out), ("in", traffic.bytes_in)]);
        self.listener.outcomes().into_iter().for_each(|(how, n)| to.count_of(Metric::LinkHandshakes, how, n));
        to.count_of(Metric::HeartbeatsRefused, "forged", self.heartbeats_forged);
    }

    fn add_valve(&self, to: &mut Reading) {
        let valve = &self.valve;
        let fates = [
            ("held", valve.held),
            ("sent_at_once", valve.sent_at_once),
            ("passed_unprotected", valve.passed_unprotected),
            ("passed_through", valve.passed_through),
            ("opening", valve.openings),
        ];
        series(to, Metric::ValveFrames, fates);
        let ends = [("released", valve.released), ("discarded", valve.discarded), ("expired", valve.expired)];
        series(to, Metric::ValveHeldFrames, ends);
        to.count(Metric::ValveReleasedBytes, valve.released_bytes);
        to.count(Metric::ValveBreaches, valve.breaches);
        to.count(Metric::ValveQuarantined, valve.quarantined);
        series(to, Metric::ValveDropped, DROP_CAUSES.map(|(cause, name)| (name, valve.dropped_for(cause))));
    }

    fn add_capture(&self, to: &mut Reading) {
        let capture = &self.capture;
        let outcomes = [
            ("checkpoint", capture.captured),
            ("full", capture.full),
            ("unchanged", capture.unchanged),
            ("referenced", capture.referenced),
        ];
        series(to, Metric::Captures, outcomes);
        for (metric, value) in [
            (Metric::CaptureRetries, capture.retries),
            (Metric::CaptureHolds, capture.holds),
            (Metric::CaptureHanging, capture.hanging),
            (Metric::CaptureLies, capture.lies),
            (Metric::CaptureCopiedBytes, capture.copied_bytes),
            (Metric::CaptureLines, capture.lines),
            (Metric::CaptureBodyBytes, capture.body_bytes),
        ] {
            to.count(metric, value);
        }
    }

    fn add_standby(&self, to: &mut Reading) {
        let (images, ingress, tombstones) = (&self.images, &self.ingress, &self.tombstones);
        let events = [("created", images.created), ("freed", images.freed), ("installed", images.installed)];
        series(to, Metric::Images, events);
        let outcomes = [("applied", images.applied), ("gap", images.gaps), ("refused", images.refused)];
        series(to, Metric::ImageCheckpoints, outcomes);
        series(to, Metric::ImageBytes, [("applied", images.applied_bytes), ("installed", images.installed_bytes)]);
        let fates = [
            ("stored", ingress.stored),
            ("to_guest", ingress.to_guest),
            ("covered", ingress.covered),
            ("replayed", ingress.replayed),
            ("useless", ingress.useless),
            ("beyond_window", ingress.beyond_window),
            ("over_flow_limit", ingress.over_flow_limit),
            ("over_vmm_limit", ingress.over_vmm_limit),
            ("unparsable", ingress.unparsable),
        ];
        series(to, Metric::Ingress, fates);
        to.count(Metric::IngressFlowsExpired, ingress.flows_expired);
        let events = [
            ("laid", tombstones.laid),
            ("dropped_early", tombstones.dropped_early),
            ("answered", tombstones.answered),
            ("reset", tombstones.reset),
            ("silent", tombstones.silent),
            ("reopened", tombstones.reopened),
        ];
        series(to, Metric::Tombstones, events);
    }

    fn add_vm(&self, to: &mut Reading) {
        let (net, exits) = (&self.vm.net, &self.vm.exits);
        let frames = [("tx", net.tx_frames), ("tx_segmented", net.tx_segmented), ("rx", net.rx_frames)];
        series(to, Metric::VmFrames, frames);
        series(to, Metric::VmBytes, [("tx", net.tx_bytes), ("rx", net.rx_bytes)]);
        let causes = [
            ("tx_chain", net.tx_chains_malformed),
            ("tx_header", net.tx_headers_refused),
            ("rx_no_buffer", net.rx_no_buffer),
            ("rx_length", net.rx_bad_length),
            ("rx_header", net.rx_headers_refused),
            ("rx_chain", net.rx_chains_malformed),
            ("rx_not_ready", net.rx_not_ready),
        ];
        series(to, Metric::VmFramesRefused, causes);
        to.count(Metric::VmInterrupts, net.interrupts);
        let kinds = [
            ("mmio", exits.mmio),
            ("mmio_unknown", exits.mmio_unknown),
            ("port", exits.ports),
            ("unleased_arena", exits.unleased_arena),
            ("interrupted", exits.interrupted),
        ];
        series(to, Metric::VmExits, kinds);
        to.count(Metric::VmLeases, self.vm.leases);
        to.count(Metric::VmBoots, self.vm.boots);
        to.count(Metric::VmConsoleDropped, self.vm.console_dropped_bytes);
    }
}

fn series<const N: usize>(to: &mut Reading, metric: Metric, values: [(&'static str, u64); N]) {
    for (label, value) in values {
        to.count_of(metric, label, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_metrics::{Part, TABLE};
    use std::collections::BTreeSet;

    #[test]
    fn a_node_tells_every_metric_of_its_part_and_no_other() {
        let told: BTreeSet<Metric> = Sources::default().reading().metrics().collect();
        let own = [Metric::ProcessCpu, Metric::ProcessResident];
        let wanted = TABLE.iter().filter(|line| line.parts.contains(&Part::Node) && !own.contains(&line.metric));
        assert_eq!(told, wanted.map(|line| line.metric).collect());
    }

    #[test]
    fn each_cause_of_a_drop_has_its_name() {
        let mut valve = ValveMetrics::default();
        for (n, count) in (1..).zip(&mut valve.dropped) {
            *count = n;
        }
        let json = Sources { valve, ..Sources::default() }.reading().to_json();
        let told = json.get("escape_valve_dropped_frames_total").and_then(|causes| causes.as_object());
        let sum: u64 = told.into_iter().flat_map(|causes| causes.values()).filter_map(|n| n.as_u64()).sum();
        assert_eq!(sum, (1..=DropCause::COUNT as u64).sum::<u64>());
    }
}
