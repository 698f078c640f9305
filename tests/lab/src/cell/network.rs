//! The networks: control, one data and one mirror wire per host, and the clients'.

use super::client_wire::ClientWire;
use super::firewall::Firewall;
use super::namespace::HostNamespace;
use super::process::enter;
use anyhow::{Context, Result};
use escape_fabric::links::{LinkSpec, Links};
use escape_fabric::netns::NetNs;
use escape_fabric::tap::{Tap, TapLifetime};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::Command;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// Of clients' and control network.
pub(super) const PREFIX: u8 = 16;

/// The namespaces of this machine.
pub struct Network {
    /// Where clients live.
    pub clients: NetNs,
    /// Where edge and orchestrator live; hosts' wires end here.
    pub edge: NetNs,
    /// Between the two.
    pub wire: ClientWire,
    /// Before the clients.
    pub firewall: Option<Firewall>,
    links: Links,
    bridge: u32,
    /// Hosts that are namespaces of this machine; each stays when its node ends, as a machine that is switched off.
    hosts: BTreeMap<u16, HostNamespace>,
}

/// This machine's ends of a host's three wires, control, data and mirror, to cut them.
#[derive(Clone, Copy, Debug)]
pub struct Wires([u32; 3]);

impl Network {
    /// Namespaces without hosts. The seed is the clients' wire's.
    pub fn new(seed: u64) -> Result<Self> {
        let (clients, edge) = (NetNs::create()?, NetNs::create()?);
        let mut links = Links::open_in(&edge)?;
        let lo = links.index_of("lo")?;
        links.set_up(lo)?;
        let bridge = links.create_bridge(&LinkSpec::named("br0"))?;
        links.silence_ipv6(bridge)?;
        links.add_address(bridge, CONTROL, PREFIX)?;
        links.set_up(bridge)?;
        let uplink = Tap::open_in(&edge, "up0", TapLifetime::WithDescriptor)?;
        links.set_promiscuous(uplink.index(), true)?;
        let near = Tap::open_in(&clients, "c0", TapLifetime::WithDescriptor)?;
        let mut theirs = Links::open_in(&clients)?;
        theirs.set_arp(near.index(), true)?;
        theirs.add_address(near.index(), CLIENT, PREFIX)?;
        let wire = ClientWire::between(near, uplink, seed)?;
        offer_ecn(&clients)?;
        let firewall = Firewall::before(&clients)?;
        Ok(Self { clients, edge, wire, firewall, links, bridge, hosts: BTreeMap::new() })
    }

    /// Wires for an emulated host: taps, for its emulator. They stay when that ends, and a new one finds them.
    pub fn taps(&mut self, host: u16) -> Result<([OwnedFd; 3], Wires)> {
        let open =
            |name: String| Tap::open_in(&self.edge, &name, TapLifetime::Persistent).with_context(|| name.clone());
        let [control, data, mirror] = wire_names(host);
        let taps = [open(control)?, open(data)?, open(mirror)?];
        let wires = Wires([taps[0].index(), taps[1].index(), taps[2].index()]);
        self.connect(wires)?;
        Ok((taps.map(Tap::into_fd), wires))
    }

    /// A host that is a namespace of this machine, with its wires.
    pub fn namespace(&mut self, host: u16) -> Result<(&NetNs, Wires)> {
        if !self.hosts.contains_key(&host) {
            let [control, data, mirror] = wire_names(host);
            self.hosts.insert(host, HostNamespace::create(host, &mut self.links, [&control, &data, &mirror])?);
        }
        let wires = Wires(self.hosts.get(&host).context("a host")?.wires);
        self.connect(wires)?;
        Ok((&self.hosts.get(&host).context("a host")?.namespace, wires))
    }

    fn connect(&mut self, wires: Wires) -> Result<()> {
        let Wires([control, ports @ ..]) = wires;
        self.links.silence_ipv6(control)?;
        self.links.enslave(control, Some(self.bridge))?;
        for port in ports {
            self.links.silence(port)?;
            self.links.set_promiscuous(port, true)?;
        }
        self.cut(wires, false)
    }

    /// What the clients' kernel says of its connections, for people.
    pub fn clients_connections(&self) -> String {
        let mut command = Command::new("ss");
        command.arg("-tnoi");
        enter(&mut command, &self.clients, &[]);
        command.output().map_or_else(|e| e.to_string(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Segments of bytes that a client had already, so far: its kernel says so to their sender (RFC 2883).
    pub fn segments_twice(&self) -> Result<u64> {
        let counters = self.clients.enter(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))?;
        let counters = counters.context("the clients' counters")?;
        let mut lines = counters.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_ascii_whitespace);
        let (names, values) = (lines.next().context("names of counters")?, lines.next().context("counters")?);
        let named = names.zip(values).find(|(name, _)| *name == "TCPDSACKOldSent");
        named.context("TCPDSACKOldSent")?.1.parse().context("TCPDSACKOldSent")
    }

    /// Cuts a host off, or joins it again.
    pub fn cut(&mut self, wires: Wires, away: bool) -> Result<()> {
        for index in wires.0 {
            if away { self.links.set_down(index)? } else { self.links.set_up(index)? }
        }
        Ok(())
    }
}

/// Clients that offer ECN with each SYN (T23): guests decline.
fn offer_ecn(clients: &NetNs) -> Result<()> {
    clients.enter(|| std::fs::write("/proc/sys/net/ipv4/tcp_ecn", "1"))?.context("net.ipv4.tcp_ecn")
}

/// The edge's names of a host's wires: control, data, mirror.
fn wire_names(host: u16) -> [String; 3] {
    [format!("ctl{host}"), format!("node{host}"), format!("node{host}m")]
}
