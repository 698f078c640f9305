//! The replication file of a cell, and its rules.

use std::path::Path;

use escape_node::RAM_MIB;
use serde::{Deserialize, Serialize};

use super::control::Control;
use super::edge_section::Edge;
use super::node_entry::NodeEntry;
use super::problem::{self, ConfigErrors};
use super::rules::Rules;
use super::sections::{Cell, Quotas, Service, Timings};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicationFile {
    /// What all nodes have in common.
    pub cell: Cell,
    /// What clients see.
    #[serde(default)]
    pub service: Service,
    /// When a node is dead.
    #[serde(default)]
    pub timings: Timings,
    /// How much may wait.
    #[serde(default)]
    pub quotas: Quotas,
    /// Orchestrator, store and the edge's link.
    #[serde(default)]
    pub control: Control,
    /// The machine that steers clients' flows.
    #[serde(default)]
    pub edge: Edge,
    /// The nodes, at least two on different hosts.
    pub nodes: Vec<NodeEntry>,
}

impl ReplicationFile {
    /// Reads and checks a file.
    pub fn read(file: &Path) -> Result<Self, ConfigErrors> {
        Self::parse(file, &problem::read(file)?)
    }

    /// Checks a text; `file` is only for the messages. Syntax and type errors come alone, broken rules all at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let parsed: Self = problem::deserialize(file, text)?;
        let mut rules = Rules::new(file, text);
        parsed.check_cell(&mut rules);
        parsed.check_service(&mut rules);
        parsed.check_timings(&mut rules);
        parsed.check_quotas(&mut rules);
        parsed.check_places(&mut rules);
        rules.end()?;
        Ok(parsed)
    }

    fn check_cell(&self, rules: &mut Rules<'_>) {
        let cell = &self.cell;
        rules.require(is_uuid(&cell.uuid), &["cell".into(), "uuid".into()], || {
            format!("{:?} is no UUID: 32 hexadecimal digits (a-f small) as in 8-4-4-4-12, not all zero", cell.uuid)
        });
        rules.require(!cell.image.is_empty(), &["cell".into(), "image".into()], || {
            "must be \"freestanding\" or the path of an image".into()
        });
        rules.within(cell.ram_mib, RAM_MIB, "cell", "ram_mib");
        rules.require(
            cell.cmdline.len() <= 255 && !cell.cmdline.contains('\0'),
            &["cell".into(), "cmdline".into()],
            || "must be at most 255 bytes without a zero byte".into(),
        );
        rules.require(cell.ram_mib.is_multiple_of(2), &["cell".into(), "ram_mib".into()], || "must be even".into());
        rules.within(cell.slots, 64..=65_536, "cell", "slots");
        rules.require(cell.slots.is_multiple_of(64), &["cell".into(), "slots".into()], || {
            format!("{} is no multiple of 64 (slots are leased by 64)", cell.slots)
        });
        rules.within(cell.leases_per_node, 1..=1_024, "cell", "leases_per_node");
        let wanted = u64::from(cell.leases_per_node) * 64 * self.nodes.len() as u64;
        rules.require(wanted <= u64::from(cell.slots), &["cell".into(), "leases_per_node".into()], || {
            format!(
                "{} nodes with {} leases need {wanted} slots, the cell has {}",
                self.nodes.len(),
                cell.leases_per_node,
                cell.slots
            )
        });
        rules.within(cell.groups_per_node, 1..=64, "cell", "groups_per_node");
    }

    fn check_service(&self, rules: &mut Rules<'_>) {
        let service = &self.service;
        let ip = service.ip;
        let unusable = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast();
        rules.require(!unusable, &["service".into(), "ip".into()], || format!("{ip} cannot be a service's address"));
        let [first, ..] = service.mac.0;
        rules.require(first & 1 == 0 && service.mac.0 != [0; 6], &["service".into(), "mac".into()], || {
            format!("{} is no unicast address (an even first octet, not all zero)", service.mac)
        });
        rules.within(service.http_port, 1..=u16::MAX, "service", "http_port");
        rules.within(service.stream_port, 1..=u16::MAX, "service", "stream_port");
        rules.require(service.http_port != service.stream_port, &["service".into(), "stream_port".into()], || {
            format!("{} is the HTTP port too", service.stream_port)
        });
        rules.within(service.idle_timeout_s, 0..=86_400, "service", "idle_timeout_s");
    }

    fn check_timings(&self, rules: &mut Rules<'_>) {
        let timings = &self.timings;
        rules.within(timings.heartbeat_ms, 1..=1_000, "timings", "heartbeat_ms");
        rules.within(timings.suspect_after_ms, 2..=60_000, "timings", "suspect_after_ms");
        rules.within(timings.progress_timeout_ms, 5..=60_000, "timings", "progress_timeout_ms");
        rules.within(timings.guest_timeout_ms, 10..=60_000, "timings", "guest_timeout_ms");
        rules.within(timings.guest_boot_ms, 100..=600_000, "timings", "guest_boot_ms");
        rules.within(timings.max_staleness_ms, 1..=1_000, "timings", "max_staleness_ms");
        rules.within(timings.pause_limit_ms, 1..=60_000, "timings", "pause_limit_ms");
        rules.within(timings.claim_ms, 0..=600_000, "timings", "claim_ms");
        let beats = timings.heartbeat_ms.saturating_mul(2);
        rules.require(timings.suspect_after_ms >= beats, &["timings".into(), "suspect_after_ms".into()], || {
            format!(
                "{} is less than two heartbeats ({beats}): one late packet would kill a node",
                timings.suspect_after_ms
            )
        });
        let least = timings.suspect_after_ms;
        rules.require(timings.progress_timeout_ms >= least, &["timings".into(), "progress_timeout_ms".into()], || {
            format!("{} is less than suspect_after_ms ({least})", timings.progress_timeout_ms)
        });
        rules.require(timings.pause_limit_ms <= least, &["timings".into(), "pause_limit_ms".into()], || {
            format!("{} is more than suspect_after_ms ({least}): a deposed owner would not ask", timings.pause_limit_ms)
        });
    }

    fn check_quotas(&self, rules: &mut Rules<'_>) {
        let quotas = &self.quotas;
        rules.within(quotas.held_kib_per_slice, 64..=16_384, "quotas", "held_kib_per_slice");
        rules.within(quotas.held_mib_per_node, 1..=4_096, "quotas", "held_mib_per_node");
        rules.within(quotas.held_ms, 50..=60_000, "quotas", "held_ms");
        rules.within(quotas.mirror_mib_per_node, 1..=4_096, "quotas", "mirror_mib_per_node");
        rules.within(quotas.link_mbit, 10..=1_000_000, "quotas", "link_mbit");
        rules.within(quotas.bulk_percent, 1..=90, "quotas", "bulk_percent");
        rules.within(quotas.slice_crashes_per_minute, 1..=1_000, "quotas", "slice_crashes_per_minute");
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && text.bytes().all(|byte| matches!(byte, b'-' | b'0'..=b'9' | b'a'..=b'f'))
        && text.bytes().any(|byte| byte != b'-' && byte != b'0')
}

#[cfg(test)]
#[path = "replication_file_tests.rs"]
mod tests;
