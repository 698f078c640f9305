//! The configurations of a drill's processes: those that follow from its replication file, with what a drill alone has.

use super::error::CellSetupError;
use super::network::{
    CellNetwork, EDGE_IP, ORCHESTRATOR_IP, SERVICE_IP, SERVICE_MAC, UPLINK, mirror_name, node_ip, tap_name,
};
use crate::config::{
    Cell, Control, Edge, FREESTANDING, MacAddress, NodeEntry, OperatorConfig, Quotas, ReplicationFile, Service,
    SlicePer, Timings,
};
use escape_abi::layout::{LEASE_SLOTS, SLOTS_MAX};
use escape_link::ClusterAuthority;
use escape_node::{Interface, NodeConfig};
use escape_orchestrator::{EdgeProcessConfig, OrchestratorProcessConfig, OutputPlace};
use escape_proto::{NodeId, Role};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};

/// Port of every link.
const LINK_PORT: u16 = 7400;
/// Port of every heartbeat socket.
const BEAT_PORT: u16 = 7401;
/// Identity of every drill's cell; its authority is new each time.
const UUID: &str = "00000000-0000-4000-8000-0000000d2111";
/// Sessions for each client address; Linux gives out some 28,000 ports of one, and ports rest a minute after their use.
const SESSIONS_PER_ADDRESS: u32 = 10_000;
/// Groups that a node gets when it joins, if nothing else is said.
pub const GROUPS_PER_NODE: u32 = 16;
/// Standard output.
const STDOUT: u32 = 1;

/// What a cell on this machine looks like.
#[derive(Clone, Debug)]
pub struct CellPlan {
    /// Nodes.
    pub nodes: u16,
    /// Groups that a node gets when it joins.
    pub groups_per_node: u32,
    /// Sessions that one node must be able to open.
    pub sessions: u32,
    /// What makes a slice.
    pub slice_per: SlicePer,
    /// Addresses that the clients have at least.
    pub client_addresses: u8,
    /// HTTP port.
    pub http_port: u16,
    /// Stream port.
    pub stream_port: u16,
    /// Hold output and replicate state; `false` only to measure what that costs.
    pub replication: bool,
    /// The guests' boot command line.
    pub cmdline: String,
    /// CPUs for the nodes' data threads, in turn; empty: the kernel chooses.
    pub cpus: Vec<u16>,
    /// Times.
    pub timings: Timings,
    /// Quotas.
    pub quotas: Quotas,
    /// A deliberate fault in every process.
    pub broken: Option<String>,
}

impl CellPlan {
    /// Three nodes.
    pub fn new(sessions: u32) -> Self {
        Self {
            nodes: 3,
            groups_per_node: GROUPS_PER_NODE,
            sessions,
            slice_per: SlicePer::Connection,
            client_addresses: 1,
            http_port: 80,
            stream_port: 7777,
            replication: true,
            cmdline: String::new(),
            cpus: Vec::new(),
            timings: Timings::default(),
            quotas: Quotas::default(),
            broken: None,
        }
    }

    /// Leases per node: all sessions and half as many again, because they are not spread evenly; of many sessions as much as
    /// leaves a node's worth of leases for those that join anew.
    fn leases(&self) -> u32 {
        let of_large_cell = SLOTS_MAX / LEASE_SLOTS / (u32::from(self.nodes) + 1);
        (self.sessions * 3 / 2 + 128).div_ceil(LEASE_SLOTS).min(of_large_cell)
    }

    /// Addresses that the clients have: each has a port for every session at it.
    pub(super) fn client_addresses(&self) -> u8 {
        u8::try_from(self.sessions / SESSIONS_PER_ADDRESS + 1).unwrap_or(u8::MAX).max(self.client_addresses)
    }

    /// Slots of the arena: every node may join three times before a lease is used again.
    pub fn slots(&self) -> u32 {
        (self.leases() * LEASE_SLOTS * u32::from(self.nodes) * 3).min(SLOTS_MAX)
    }

    /// RAM of a guest, MiB.
    fn ram_mib(&self) -> u32 {
        (64 + self.sessions / 100).next_multiple_of(2).min(1024)
    }

    /// The replication file of this cell.
    pub fn file(&self) -> ReplicationFile {
        let control = Control {
            orchestrator: addr(ORCHESTRATOR_IP, LINK_PORT),
            orchestrator_heartbeat: addr(ORCHESTRATOR_IP, BEAT_PORT),
            edge: addr(EDGE_IP, LINK_PORT),
            ..Control::default()
        };
        ReplicationFile {
            cell: Cell {
                uuid: UUID.into(),
                image: FREESTANDING.into(),
                cmdline: self.cmdline.clone(),
                ram_mib: self.ram_mib(),
                slots: self.slots(),
                leases_per_node: self.leases(),
                groups_per_node: self.groups_per_node,
            },
            service: Service {
                ip: SERVICE_IP,
                mac: MacAddress(SERVICE_MAC),
                http_port: self.http_port,
                stream_port: self.stream_port,
                slice_per: self.slice_per,
                ..Service::default()
            },
            timings: self.timings.clone(),
            quotas: self.quotas.clone(),
            control,
            edge: Edge { uplink: UPLINK.into(), ..Edge::default() },
            nodes: (0..self.nodes).map(|node| self.entry(node)).collect(),
        }
    }

    /// A node: its taps are interfaces of the edge, and their descriptors its own.
    fn entry(&self, id: u16) -> NodeEntry {
        NodeEntry {
            id,
            host: format!("host-{id}"),
            control: addr(node_ip(id), LINK_PORT),
            heartbeat: addr(node_ip(id), BEAT_PORT),
            tap: tap_name(id),
            mirror: mirror_name(id),
            edge_port: tap_name(id),
            edge_mirror: mirror_name(id),
            metrics: None,
            cpu: self.cpus.get(usize::from(id) % self.cpus.len().max(1)).copied(),
        }
    }

    /// What an operator's commands need; a new identity each time.
    pub(super) fn operator(&self, authority: &ClusterAuthority) -> Result<OperatorConfig, CellSetupError> {
        Ok(self.file().operator_config(authority.issue(Role::Operator)?))
    }

    /// The orchestrator's, with its store's descriptor.
    pub(super) fn orchestrator(&self, authority: &ClusterAuthority, store: RawFd) -> Result<String, CellSetupError> {
        let config = self.file().orchestrator_config(authority.issue(Role::Orchestrator)?);
        print(
            "the orchestrator",
            &OrchestratorProcessConfig {
                store: OutputPlace::Fd(store.unsigned_abs()),
                events: Some(OutputPlace::Fd(STDOUT)),
                broken: self.broken.clone(),
                ..config
            },
        )
    }

    /// The edge's.
    pub(super) fn edge(&self, authority: &ClusterAuthority) -> Result<String, CellSetupError> {
        let config = self.file().edge_config(authority.issue(Role::Edge)?);
        let events = Some(OutputPlace::Fd(STDOUT));
        print("the edge", &EdgeProcessConfig { events, broken: self.broken.clone(), ..config })
    }

    /// A node's, with the descriptors of its taps.
    pub(super) fn node(
        &self,
        authority: &ClusterAuthority,
        network: &CellNetwork,
        node: u16,
    ) -> Result<String, CellSetupError> {
        let port = network.nodes.get(usize::from(node)).ok_or(CellSetupError::NoNode(node))?;
        let config = self.file().node_config(&self.entry(node), authority.issue(Role::Node(NodeId(node)))?);
        print(
            &format!("node {node}"),
            &NodeConfig {
                tap: Interface::Fd(port.tap.as_raw_fd()),
                mirror: Some(Interface::Fd(port.mirror.as_raw_fd())),
                replication: self.replication,
                broken: self.broken.clone(),
                ..config
            },
        )
    }
}

const fn addr(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(ip, port))
}

fn print<T: serde::Serialize>(what: &str, config: &T) -> Result<String, CellSetupError> {
    toml::to_string(config).map_err(|source| CellSetupError::Config { what: what.into(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_drills_cell_is_one_that_a_user_may_have() {
        for sessions in [20, 200, 1_000, 10_000, 30_000] {
            let file = CellPlan { cpus: vec![0, 1], ..CellPlan::new(sessions) }.file();
            let text = toml::to_string(&file).unwrap();
            assert_eq!(ReplicationFile::parse(Path::new("drill.toml"), &text).unwrap(), file, "{sessions} sessions");
        }
    }
}
