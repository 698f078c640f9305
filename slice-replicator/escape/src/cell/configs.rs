//! The configurations of a cell's processes.

use super::error::CellSetupError;
use super::network::{
    CellNetwork, EDGE_IP, ORCHESTRATOR_IP, SERVICE_IP, SERVICE_MAC, UPLINK, mirror_name, node_ip, tap_name,
};
use escape_link::ClusterAuthority;
use escape_node::{Interface, NodeConfig, ServiceConfig, TimingConfig};
use escape_orchestrator::{DetectionTiming, EdgeProcessConfig, NodePorts, OrchestratorProcessConfig, OutputPlace};
use escape_proto::{NodeId, Role};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};

/// Port of every link.
const LINK_PORT: u16 = 7400;
/// Port of every heartbeat socket.
const BEAT_PORT: u16 = 7401;
/// Standard output.
const STDOUT: u32 = 1;

/// What a cell on this machine looks like.
#[derive(Clone, Debug)]
pub struct CellPlan {
    /// Nodes.
    pub nodes: u16,
    /// Sessions that one node must be able to open.
    pub sessions: u32,
    /// HTTP port.
    pub http_port: u16,
    /// Stream port.
    pub stream_port: u16,
    /// Hold output and replicate state; `false` only to measure what that costs.
    pub replication: bool,
    /// CPUs for the nodes' data threads, in turn; empty: the kernel chooses.
    pub cpus: Vec<u16>,
    /// A deliberate fault in every process.
    pub broken: Option<String>,
}

impl CellPlan {
    /// Three nodes.
    pub const fn new(sessions: u32) -> Self {
        Self { nodes: 3, sessions, http_port: 80, stream_port: 7777, replication: true, cpus: Vec::new(), broken: None }
    }

    /// Leases per node: all sessions and half as many again, because they are not spread evenly.
    fn leases(&self) -> u32 {
        (self.sessions * 3 / 2 + 128).div_ceil(64)
    }

    /// Slots of the arena: every node may join three times before a lease is used again.
    pub fn slots(&self) -> u32 {
        (self.leases() * 64 * u32::from(self.nodes) * 3).min(65_536)
    }

    /// RAM of a guest, MiB.
    fn ram_mib(&self) -> u32 {
        (64 + self.sessions / 100).next_multiple_of(2).min(1024)
    }

    fn addr(ip: std::net::Ipv4Addr, port: u16) -> SocketAddr {
        SocketAddrV4::new(ip, port).into()
    }

    /// The orchestrator's, with its store's descriptor.
    pub(super) fn orchestrator(&self, authority: &ClusterAuthority, store: RawFd) -> Result<String, CellSetupError> {
        print(
            "the orchestrator",
            &OrchestratorProcessConfig {
                listen: Self::addr(ORCHESTRATOR_IP, LINK_PORT),
                beat_listen: Self::addr(ORCHESTRATOR_IP, BEAT_PORT),
                store: OutputPlace::Fd(store.unsigned_abs()),
                groups_per_node: 16,
                n_slots: self.slots(),
                leases_per_join_max: self.leases(),
                timing: DetectionTiming::default(),
                real_time: true,
                events: Some(OutputPlace::Fd(STDOUT)),
                broken: self.broken.clone(),
                secrets: authority.issue(Role::Orchestrator)?,
            },
        )
    }

    /// The edge's.
    pub(super) fn edge(&self, authority: &ClusterAuthority) -> Result<String, CellSetupError> {
        let ports =
            (0..self.nodes).map(|node| NodePorts { node, data: tap_name(node), mirror: mirror_name(node) }).collect();
        print(
            "the edge",
            &EdgeProcessConfig {
                listen: Self::addr(EDGE_IP, LINK_PORT),
                orchestrator: Self::addr(ORCHESTRATOR_IP, LINK_PORT),
                uplink: UPLINK.into(),
                netns_fd: None,
                ports,
                service_ip: SERVICE_IP,
                service_mac: SERVICE_MAC,
                tcp_ports: vec![self.http_port, self.stream_port],
                learned_expiry_s: 60,
                real_time: true,
                events: Some(OutputPlace::Fd(STDOUT)),
                broken: self.broken.clone(),
                secrets: authority.issue(Role::Edge)?,
            },
        )
    }

    /// A node's, with the descriptors of its taps.
    pub(super) fn node(
        &self,
        authority: &ClusterAuthority,
        network: &CellNetwork,
        node: u16,
    ) -> Result<String, CellSetupError> {
        let port = network.nodes.get(usize::from(node)).ok_or(CellSetupError::NoNode(node))?;
        let peers = (0..self.nodes).filter(|n| *n != node).map(|n| Self::addr(node_ip(n), BEAT_PORT));
        let beats_to = std::iter::once(Self::addr(ORCHESTRATOR_IP, BEAT_PORT)).chain(peers).collect();
        print(
            &format!("node {node}"),
            &NodeConfig {
                id: node,
                host: format!("host-{node}"),
                listen: Self::addr(node_ip(node), LINK_PORT),
                orchestrator: Self::addr(ORCHESTRATOR_IP, LINK_PORT),
                edge: Self::addr(EDGE_IP, LINK_PORT),
                beat_listen: Self::addr(node_ip(node), BEAT_PORT),
                beats_to,
                tap: Interface::Fd(port.tap.as_raw_fd()),
                mirror: Some(Interface::Fd(port.mirror.as_raw_fd())),
                n_slots: self.slots(),
                leases: self.leases(),
                ram_mib: self.ram_mib(),
                service: ServiceConfig {
                    ip: SERVICE_IP,
                    mac: SERVICE_MAC,
                    http_port: self.http_port,
                    stream_port: self.stream_port,
                    idle_timeout_s: 300,
                },
                timing: TimingConfig::default(),
                replication: self.replication,
                cpu: self.cpus.get(usize::from(node) % self.cpus.len().max(1)).copied(),
                broken: self.broken.clone(),
                secrets: authority.issue(Role::Node(NodeId(node)))?,
            },
        )
    }
}

fn print<T: serde::Serialize>(what: &str, config: &T) -> Result<String, CellSetupError> {
    toml::to_string(config).map_err(|source| CellSetupError::Config { what: what.into(), source })
}
