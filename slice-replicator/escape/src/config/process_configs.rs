//! What each process of a cell is told, as it follows from the replication file. This is the only place where the one
//! becomes the other: `escape cell init` writes the results down, and a drill's cell changes in them what it alone has
//! (descriptors instead of names, deliberate faults).

use std::path::Path;

use escape_link::ClusterSecrets;
use escape_node::{Interface, NodeConfig, QuotaConfig, ServiceConfig, TimingConfig};
use escape_orchestrator::{DetectionTiming, EdgeProcessConfig, NodePorts, OrchestratorProcessConfig, OutputPlace};

use super::node_entry::NodeEntry;
use super::operator_config::OperatorConfig;
use super::replication_file::ReplicationFile;
use super::sections::{FREESTANDING, SlicePer};

impl ReplicationFile {
    /// The orchestrator's configuration.
    pub fn orchestrator_config(&self, secrets: ClusterSecrets) -> OrchestratorProcessConfig {
        OrchestratorProcessConfig {
            listen: self.control.orchestrator,
            beat_listen: self.control.orchestrator_heartbeat,
            store: OutputPlace::Path(self.control.store.clone()),
            groups_per_node: self.cell.groups_per_node,
            claim_ms: self.timings.claim_ms,
            slice_crashes_per_minute: self.quotas.slice_crashes_per_minute,
            n_slots: self.cell.slots,
            leases_per_join_max: self.cell.leases_per_node,
            timing: DetectionTiming {
                suspect_after_ms: self.timings.suspect_after_ms,
                progress_timeout_ms: self.timings.progress_timeout_ms,
                ..DetectionTiming::default()
            },
            real_time: true,
            events: self.events_place(),
            metrics: self.control.orchestrator_metrics,
            broken: None,
            secrets,
        }
    }

    /// The edge's configuration.
    pub fn edge_config(&self, secrets: ClusterSecrets) -> EdgeProcessConfig {
        let ports = |node: &NodeEntry| NodePorts {
            node: node.id,
            data: node.edge_port.clone(),
            mirror: node.edge_mirror.clone(),
        };
        EdgeProcessConfig {
            listen: self.control.edge,
            orchestrator: self.control.orchestrator,
            uplink: self.edge.uplink.clone(),
            netns_fd: None,
            ports: self.nodes.iter().map(ports).collect(),
            service_ip: self.service.ip,
            service_mac: self.service.mac.0,
            tcp_ports: vec![self.service.http_port, self.service.stream_port],
            slice_per_client: self.service.slice_per == SlicePer::Client,
            learned_expiry_s: self.edge.learned_expiry_s,
            real_time: true,
            events: self.events_place(),
            metrics: self.control.edge_metrics,
            broken: None,
            secrets,
        }
    }

    /// What people's commands need.
    pub const fn operator_config(&self, secrets: ClusterSecrets) -> OperatorConfig {
        OperatorConfig { orchestrator: self.control.orchestrator, secrets }
    }

    /// The configuration of one of the nodes.
    pub fn node_config(&self, node: &NodeEntry, secrets: ClusterSecrets) -> NodeConfig {
        let others = self.nodes.iter().filter(|other| other.id != node.id).map(|other| other.heartbeat);
        NodeConfig {
            linux: None,
            id: node.id,
            host: node.host.clone(),
            listen: node.control,
            orchestrator: self.control.orchestrator,
            edge: self.control.edge,
            beat_listen: node.heartbeat,
            beats_to: std::iter::once(self.control.orchestrator_heartbeat).chain(others).collect(),
            tap: Interface::Name(node.tap.clone()),
            mirror: Some(Interface::Name(node.mirror.clone())),
            n_slots: self.cell.slots,
            leases: self.cell.leases_per_node,
            ram_mib: self.cell.ram_mib,
            image: (self.cell.image != FREESTANDING).then(|| Path::new(&self.cell.image).to_owned()),
            cmdline: self.cell.cmdline.clone(),
            service: self.service_config(),
            timing: self.timing_config(),
            quotas: self.quota_config(),
            replication: true,
            metrics: node.metrics,
            cpu: node.cpu,
            broken: None,
            secrets,
        }
    }

    fn service_config(&self) -> ServiceConfig {
        let service = &self.service;
        ServiceConfig {
            ip: service.ip,
            mac: service.mac.0,
            http_port: service.http_port,
            stream_port: service.stream_port,
            idle_timeout_s: service.idle_timeout_s,
            slice_per_client: service.slice_per == SlicePer::Client,
        }
    }

    const fn timing_config(&self) -> TimingConfig {
        let timings = &self.timings;
        TimingConfig {
            heartbeat_ms: timings.heartbeat_ms,
            suspect_after_ms: timings.suspect_after_ms,
            progress_timeout_ms: timings.progress_timeout_ms,
            guest_timeout_ms: timings.guest_timeout_ms,
            guest_boot_ms: timings.guest_boot_ms,
            max_staleness_ms: timings.max_staleness_ms,
            pause_limit_ms: timings.pause_limit_ms,
        }
    }

    const fn quota_config(&self) -> QuotaConfig {
        let quotas = &self.quotas;
        QuotaConfig {
            held_kib_per_slice: quotas.held_kib_per_slice,
            held_mib_per_node: quotas.held_mib_per_node,
            held_ms: quotas.held_ms,
            mirror_mib_per_node: quotas.mirror_mib_per_node,
            link_mbit: quotas.link_mbit,
            bulk_percent: quotas.bulk_percent,
        }
    }

    fn events_place(&self) -> Option<OutputPlace> {
        let events = &self.control.events;
        (!events.as_os_str().is_empty()).then(|| OutputPlace::Path(events.clone()))
    }
}

#[cfg(test)]
#[path = "process_configs_tests.rs"]
mod tests;
