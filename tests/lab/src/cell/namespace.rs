//! A host that is a network namespace of this machine, wired as `docs/hosts.md` says.

use super::network::PREFIX;
use anyhow::{Context, Result};
use escape_fabric::links::{LinkSpec, Links};
use escape_fabric::netns::NetNs;
use escape_fabric::tap::{Tap, TapLifetime};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

/// The namespace and the edge's ends of its wires.
pub struct HostNamespace {
    /// Where the node runs.
    pub namespace: NetNs,
    /// Control, data, mirror.
    pub wires: [u32; 3],
}

impl HostNamespace {
    /// Makes the namespace, its wires from the edge, and the node's taps, each on a bridge with its wire and nothing else.
    pub fn create(host: u16, edge: &mut Links, [control, data, mirror]: [&str; 3]) -> Result<Self> {
        let namespace = NetNs::create()?;
        let mut wire =
            |near: &str, far: &str| edge.create_veth(&LinkSpec::named(near), &LinkSpec::named(far), namespace.as_fd());
        let wires = [wire(control, "eth0")?, wire(data, "eth1")?, wire(mirror, "eth2")?];
        let mut links = Links::open_in(&namespace)?;
        for own in ["lo", "eth0"] {
            let index = links.index_of(own)?;
            links.set_up(index)?;
        }
        let number = u8::try_from(host).context("a host's number")?;
        let near = links.index_of("eth0")?;
        links.silence_ipv6(near)?;
        links.add_address(near, Ipv4Addr::new(10, 78, 0, 10 + number), PREFIX)?;
        bridge(&namespace, &mut links, "eth1", &format!("escape{host}"))?;
        bridge(&namespace, &mut links, "eth2", &format!("escape{host}m"))?;
        Ok(Self { namespace, wires })
    }
}

/// A tap that the node will find, and a wire, under one bridge.
fn bridge(namespace: &NetNs, links: &mut Links, wire: &str, tap: &str) -> Result<()> {
    let wire = links.index_of(wire)?;
    let tap = Tap::open_in(namespace, tap, TapLifetime::Persistent)?;
    let bridge = links.create_bridge(&LinkSpec::named(&format!("br-{}", tap.name())))?;
    for port in [wire, tap.index()] {
        links.silence(port)?;
        links.enslave(port, Some(bridge))?;
    }
    links.set_promiscuous(wire, true)?;
    links.silence(bridge)?;
    [wire, tap.index(), bridge].into_iter().try_for_each(|index| links.set_up(index)).context("a host's bridge")
}
