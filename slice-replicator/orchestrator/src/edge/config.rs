//! What the edge's process is told at its start.

use crate::events_place::OutputPlace;
use escape_link::ClusterSecrets;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// Configuration of the edge's process. Unknown keys are errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeProcessConfig {
    /// Where nodes connect.
    pub listen: SocketAddr,
    /// The orchestrator's link.
    pub orchestrator: SocketAddr,
    /// Network namespace of the interfaces, as an inherited descriptor; without it they are in the process's own.
    #[serde(default)]
    pub netns_fd: Option<u32>,
    /// Interface towards the clients.
    pub uplink: String,
    /// Interfaces towards the nodes; they may come and go while the edge runs.
    pub ports: Vec<NodePorts>,
    /// Address of the service.
    pub service_ip: Ipv4Addr,
    /// Ethernet address of the service.
    pub service_mac: [u8; 6],
    /// Protected TCP ports.
    pub tcp_ports: Vec<u16>,
    /// New flows are placed by their client's address alone: all connections of a client are one slice.
    #[serde(default)]
    pub slice_per_client: bool,
    /// When a flow that was learned from a SYN and not confirmed by its owner is forgotten, seconds; 0 = never.
    #[serde(default = "default_learned_expiry_s")]
    pub learned_expiry_s: u64,
    /// Real-time priority for the loop, where it is allowed.
    #[serde(default = "yes")]
    pub real_time: bool,
    /// Where events go, a line of JSON each.
    #[serde(default)]
    pub events: Option<OutputPlace>,
    /// Where metrics are told over HTTP; none: nowhere.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// A deliberate fault (`escape drill --break`).
    #[serde(default)]
    pub broken: Option<String>,
    /// This process's identity; its placement seed is the fabric's.
    pub secrets: ClusterSecrets,
}

/// A node's interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePorts {
    /// The node.
    pub node: u16,
    /// Interface of its guest's frames.
    pub data: String,
    /// Interface on which it gets copies for groups that it stands by.
    pub mirror: String,
}

const fn default_learned_expiry_s() -> u64 {
    60
}

const fn yes() -> bool {
    true
}
