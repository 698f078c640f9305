//! Several hosts on this machine, as docs/hosts.md wants them: each a network namespace that vanishes with its last
//! process.
//!
//! ```text
//!  clients ── up0 [ edge, orchestrator ] node1 ───── wire1  ┐ br1  ── escape1   [ host alpha: node 1 ]
//!                                        node1m ──── wire1m ┘ br1m ── escape1m
//!                                        node2 …                              [ host beta: node 2 ]
//!               every host ── ctl0 ── the control network
//! ```

use escape_fabric::links::{LinkSpec, Links};
use escape_fabric::netns::NetNs;
use escape_fabric::tap::{Tap, TapLifetime};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

/// Clients and service are in one network.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const PREFIX: u8 = 16;
/// Addresses of the control network: the edge's host (the orchestrator's too), then those of the nodes.
const EDGE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

/// The hosts.
pub struct HostsNetwork {
    /// Where clients live.
    pub clients: NetNs,
    /// The edge's and the orchestrator's host.
    pub edge: NetNs,
    /// Hosts of the nodes 1, 2, …
    pub nodes: Vec<NetNs>,
    _control: NetNs,
}

impl HostsNetwork {
    /// A host for the edge and one for each of `nodes` nodes.
    pub fn new(nodes: u8) -> Self {
        let [clients, edge, control] = [(); 3].map(|()| NetNs::create().unwrap());
        let mut control_links = Links::open_in(&control).unwrap();
        let bridge = control_links.create_bridge(&LinkSpec::named("br0")).unwrap();
        control_links.set_up(bridge).unwrap();
        let mut join = |name: &str, host: &NetNs, address| {
            set_loopback_up(host);
            let port =
                control_links.create_veth(&LinkSpec::named(name), &LinkSpec::named("ctl0"), host.as_fd()).unwrap();
            control_links.enslave(port, Some(bridge)).unwrap();
            control_links.set_up(port).unwrap();
            give_address(host, "ctl0", address);
        };
        join("edge", &edge, EDGE);
        let mut edge_links = Links::open_in(&edge).unwrap();
        edge_port(&mut edge_links, "up0", "c0", &clients);
        give_address(&clients, "c0", CLIENT);
        let nodes = (1..=nodes).map(|node| {
            let host = NetNs::create().unwrap();
            join(&format!("host{node}"), &host, Ipv4Addr::new(10, 78, 0, 10 + node));
            for kind in ["", "m"] {
                edge_port(&mut edge_links, &format!("node{node}{kind}"), &format!("wire{node}{kind}"), &host);
                bridge_to_tap(&host, node, kind);
            }
            host
        });
        Self { nodes: nodes.collect(), clients, edge, _control: control }
    }
}

/// An interface of the edge whose other end is on another host.
fn edge_port(edge: &mut Links, name: &str, far_name: &str, far: &NetNs) {
    let port = edge.create_veth(&LinkSpec::named(name), &LinkSpec::named(far_name), far.as_fd()).unwrap();
    edge.silence(port).unwrap();
    edge.set_promiscuous(port, true).unwrap();
    edge.set_up(port).unwrap();
}

/// On a node's host: the wire to the edge and a tap that outlives its node, under one bridge and with nothing else.
fn bridge_to_tap(host: &NetNs, node: u8, kind: &str) {
    let mut links = Links::open_in(host).unwrap();
    let bridge = links.create_bridge(&LinkSpec::named(&format!("br{node}{kind}"))).unwrap();
    let wire = links.index_of(&format!("wire{node}{kind}")).unwrap();
    let tap = Tap::open_in(host, &format!("escape{node}{kind}"), TapLifetime::Persistent).unwrap();
    for index in [bridge, wire, tap.index()] {
        links.silence_ipv6(index).unwrap();
    }
    for index in [wire, tap.index()] {
        links.enslave(index, Some(bridge)).unwrap();
        links.set_up(index).unwrap();
    }
    links.set_up(bridge).unwrap();
}

/// Two processes of one host speak through it.
fn set_loopback_up(host: &NetNs) {
    let mut links = Links::open_in(host).unwrap();
    let index = links.index_of("lo").unwrap();
    links.set_up(index).unwrap();
}

fn give_address(host: &NetNs, interface: &str, address: Ipv4Addr) {
    let mut links = Links::open_in(host).unwrap();
    let index = links.index_of(interface).unwrap();
    links.add_address(index, address, PREFIX).unwrap();
    links.set_up(index).unwrap();
}
