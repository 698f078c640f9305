//! The cell's network on one machine: unnamed namespaces that vanish with their last process.
//!
//! ```text
//!  clients ── up0 [ edge: t0 m0 t1 m1 t2 m2 ]      taps: one for data, one for the mirror of each node
//!                    │                              (their descriptors belong to the node processes)
//!                 control bridge ── orchestrator, node 0, node 1, node 2
//! ```

use super::cuts::Cuts;
use super::error::CellSetupError;
use crate::drill::{Cut, Party};
use escape_fabric::links::{LinkSpec, Links};
use escape_fabric::netns::NetNs;
use escape_fabric::tap::{Tap, TapLifetime};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

/// The service's address.
pub const SERVICE_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
/// The service's MAC address.
pub const SERVICE_MAC: [u8; 6] = [0x02, 0x65, 0x73, 0x63, 0x00, 0x01];
/// The clients' address; more follow it where one has too few ports.
pub const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const PREFIX: u8 = 16;
/// Name of the edge's interface towards the clients.
pub const UPLINK: &str = "up0";

/// Address of the orchestrator on the control network.
pub const ORCHESTRATOR_IP: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// Address of the edge on the control network.
pub const EDGE_IP: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 3);

/// Address of a node on the control network.
pub const fn node_ip(node: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, 1, 1 + node as u8)
}

/// Name of the orchestrator's port of the control bridge.
pub(super) const ORCHESTRATOR_PORT: &str = "o0";

/// Name of a node's port of the control bridge.
pub(super) fn control_port(node: u16) -> String {
    format!("n{node}")
}

/// Name of a node's data tap in the edge's namespace.
pub fn tap_name(node: u16) -> String {
    format!("t{node}")
}

/// Name of a node's mirror tap in the edge's namespace.
pub fn mirror_name(node: u16) -> String {
    format!("m{node}")
}

/// The links of one node, as the outside can cut them.
#[derive(Debug)]
pub struct NodePort {
    /// The node's namespace.
    pub namespace: NetNs,
    /// Descriptor of the data tap.
    pub tap: OwnedFd,
    /// Descriptor of the mirror tap.
    pub mirror: OwnedFd,
    tap_index: u32,
    mirror_index: u32,
    control_index: u32,
}

/// All namespaces and links.
#[derive(Debug)]
pub struct CellNetwork {
    /// Where clients live.
    pub clients: NetNs,
    /// The addresses that they have.
    pub client_addresses: Vec<Ipv4Addr>,
    /// Where the edge lives.
    pub edge: NetNs,
    /// Where the orchestrator lives.
    pub orchestrator: NetNs,
    /// By node.
    pub nodes: Vec<NodePort>,
    edge_links: Links,
    control_links: Links,
    cuts: Cuts,
    _control: NetNs,
}

impl CellNetwork {
    /// Makes everything for `nodes` nodes and `client_addresses` client addresses.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new(nodes: u16, client_addresses: u8) -> Result<Self, CellSetupError> {
        let (clients, edge, orchestrator, control) =
            (NetNs::create()?, NetNs::create()?, NetNs::create()?, NetNs::create()?);
        let mut edge_links = Links::open_in(&edge)?;
        let mut control_links = Links::open_in(&control)?;
        let bridge = control_links.create_bridge(&LinkSpec::named("br0"))?;
        control_links.set_up(bridge)?;
        let client_addresses = connect_clients(&clients, &mut edge_links, client_addresses)?;
        connect_control(&mut control_links, bridge, ORCHESTRATOR_PORT, &orchestrator, ORCHESTRATOR_IP)?;
        connect_control(&mut control_links, bridge, "e0", &edge, EDGE_IP)?;
        let mut ports = Vec::new();
        for node in 0..nodes {
            let namespace = NetNs::create()?;
            let control_index =
                connect_control(&mut control_links, bridge, &control_port(node), &namespace, node_ip(node))?;
            let tap = Tap::open_in(&edge, &tap_name(node), TapLifetime::Persistent)?;
            let mirror = Tap::open_in(&edge, &mirror_name(node), TapLifetime::Persistent)?;
            let (tap_index, mirror_index) = (tap.index(), mirror.index());
            ports.push(NodePort {
                namespace,
                tap: tap.into_fd(),
                mirror: mirror.into_fd(),
                tap_index,
                mirror_index,
                control_index,
            });
        }
        let cuts = Cuts::open(&control)?;
        Ok(Self {
            clients,
            client_addresses,
            edge,
            orchestrator,
            nodes: ports,
            edge_links,
            control_links,
            cuts,
            _control: control,
        })
    }

    /// Loses frames of the control network, or no longer.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set_cut(&mut self, cut: Cut, lost: bool) -> Result<(), CellSetupError> {
        for party in [cut.from, cut.to] {
            if let Party::Node(node) = party
                && usize::from(node) >= self.nodes.len()
            {
                return Err(CellSetupError::NoNode(node));
            }
        }
        self.cuts.set(cut, lost)
    }

    /// Cuts (or mends) every link of a node: data, mirror and control.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set_links(&mut self, node: u16, up: bool) -> Result<(), CellSetupError> {
        let Some(port) = self.nodes.get(usize::from(node)) else { return Err(CellSetupError::NoNode(node)) };
        let set = |links: &mut Links, index| if up { links.set_up(index) } else { links.set_down(index) };
        set(&mut self.control_links, port.control_index)?;
        set(&mut self.edge_links, port.tap_index)?;
        set(&mut self.edge_links, port.mirror_index)?;
        Ok(())
    }
}

fn connect_clients(clients: &NetNs, edge_links: &mut Links, addresses: u8) -> Result<Vec<Ipv4Addr>, CellSetupError> {
    let uplink = edge_links.create_veth(&LinkSpec::named(UPLINK), &LinkSpec::named("c0"), clients.as_fd())?;
    edge_links.silence(uplink)?;
    edge_links.set_up(uplink)?;
    let mut links = Links::open_in(clients)?;
    let near = links.index_of("c0")?;
    let [a, b, c, d] = CLIENT_IP.octets();
    let addresses: Vec<Ipv4Addr> =
        (d..=u8::MAX).take(addresses.max(1).into()).map(|d| Ipv4Addr::new(a, b, c, d)).collect();
    for address in &addresses {
        links.add_address(near, *address, PREFIX)?;
    }
    links.set_up(near)?;
    Ok(addresses)
}

/// A veth from a namespace to the control bridge; returns the bridge's end.
fn connect_control(
    control: &mut Links,
    bridge: u32,
    name: &str,
    namespace: &NetNs,
    address: Ipv4Addr,
) -> Result<u32, CellSetupError> {
    let port = control.create_veth(&LinkSpec::named(name), &LinkSpec::named("ctl0"), namespace.as_fd())?;
    control.enslave(port, Some(bridge))?;
    control.set_up(port)?;
    let mut links = Links::open_in(namespace)?;
    let near = links.index_of("ctl0")?;
    links.add_address(near, address, PREFIX)?;
    links.set_up(near)?;
    Ok(port)
}
