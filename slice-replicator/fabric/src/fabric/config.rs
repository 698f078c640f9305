use std::net::Ipv4Addr;
use std::time::Duration;

use super::{FabricError, Flow, GroupPlace, PlaceBy};
use crate::nft::Removal;
use crate::{GroupId, MacAddress, NodeId};

/// A node's two interfaces in the edge's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The node.
    pub node: NodeId,
    /// Index of the interface that its guest receives from and sends to.
    pub data: u32,
    /// Index of the interface on which its VMM records what belongs to groups that it is standby of. What is sent there
    /// is dropped and counted as the node's.
    pub mirror: u32,
}

/// What the fabric is made for.
#[derive(Debug, Clone)]
pub struct FabricConfig {
    /// Name of the nf_tables table.
    pub table: String,
    /// Name of the interface towards the clients.
    pub uplink: String,
    /// Ports at the start, at most [`super::PORTS_MAX`]; see [`super::Fabric::add_port`].
    pub ports: Vec<Port>,
    /// Address of the service, shared by all guests of the cell.
    pub service: Ipv4Addr,
    /// Ethernet address of the service, shared too. Frames of a node with another source are dropped and counted.
    pub service_mac: MacAddress,
    /// The protected TCP ports; frames to and from others are dropped and counted.
    pub tcp_ports: Vec<u16>,
    /// Seed of the hash that chooses a new flow's bucket; keep it secret, or a client can choose its bucket.
    pub hash_seed: u32,
    /// By what flows are placed and steered.
    pub place_by: PlaceBy,
    /// When an entry learned from a SYN expires, unless its owner confirms it by [`super::Fabric::set_flows`]; so a SYN
    /// flood cannot fill the table for good. `None`: entries stay until deleted.
    pub learned_expiry: Option<Duration>,
    /// Old owners lose the permission to send when their groups are steered elsewhere. `false` is a deliberate fault of
    /// drills.
    pub revoke: bool,
    /// How the kernel wants removals; `None`: as it is found to want them.
    pub removal: Option<Removal>,
}

impl FabricConfig {
    /// A configuration without ports, expiry and with seed 0.
    pub fn new(uplink: &str, service: Ipv4Addr, service_mac: MacAddress, tcp_ports: &[u16]) -> Self {
        Self {
            table: "escape".into(),
            uplink: uplink.into(),
            ports: Vec::new(),
            service,
            service_mac,
            tcp_ports: tcp_ports.to_vec(),
            hash_seed: 0,
            place_by: PlaceBy::Flow,
            learned_expiry: None,
            revoke: true,
            removal: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), FabricError> {
        let ports = &self.tcp_ports;
        if ports.is_empty() || ports.contains(&0) || ports.len() > 1_000 {
            return Err(FabricError::BadTcpPorts { count: ports.len() });
        }
        Ok(())
    }
}

/// What the tables contain from the first packet on: an edge that starts again puts in what it knows, and no flow of a
/// known group is lost between two transactions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contents<'a> {
    /// Where groups are.
    pub places: &'a [GroupPlace],
    /// Which group each bucket's new flows go to.
    pub buckets: &'a [(u16, GroupId)],
    /// Known flows.
    pub flows: &'a [(Flow, GroupId)],
}
