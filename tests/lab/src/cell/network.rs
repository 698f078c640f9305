//! The networks: control, one data and one mirror wire per host, and the clients'.

use anyhow::{Context, Result};
use escape_fabric::links::{LinkSpec, Links};
use escape_fabric::netns::NetNs;
use escape_fabric::tap::{Tap, TapLifetime};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const PREFIX: u8 = 16;

/// The namespaces of this machine.
pub struct Network {
    /// Where clients live.
    pub clients: NetNs,
    /// Where edge and orchestrator live; hosts' wires end here.
    pub edge: NetNs,
    links: Links,
    bridge: u32,
}

/// This machine's ends of a host's three wires, for its emulator: control, data, mirror.
pub struct Wires {
    /// Taps.
    pub taps: [OwnedFd; 3],
    /// Their numbers, to cut them.
    indices: [u32; 3],
}

impl Network {
    /// Namespaces without hosts.
    pub fn new() -> Result<Self> {
        let (clients, edge) = (NetNs::create()?, NetNs::create()?);
        let mut links = Links::open_in(&edge)?;
        let lo = links.index_of("lo")?;
        links.set_up(lo)?;
        let bridge = links.create_bridge(&LinkSpec::named("br0"))?;
        links.silence_ipv6(bridge)?;
        links.add_address(bridge, CONTROL, PREFIX)?;
        links.set_up(bridge)?;
        let uplink = links.create_veth(&LinkSpec::named("up0"), &LinkSpec::named("c0"), clients.as_fd())?;
        links.silence(uplink)?;
        links.set_promiscuous(uplink, true)?;
        links.set_up(uplink)?;
        let mut theirs = Links::open_in(&clients)?;
        let near = theirs.index_of("c0")?;
        theirs.add_address(near, CLIENT, PREFIX)?;
        theirs.set_up(near)?;
        Ok(Self { clients, edge, links, bridge })
    }

    /// Wires for a host; they stay when its emulator ends, and a new one finds them.
    pub fn wires(&mut self, host: u16) -> Result<Wires> {
        let open =
            |name: String| Tap::open_in(&self.edge, &name, TapLifetime::Persistent).with_context(|| name.clone());
        let taps = [open(format!("ctl{host}"))?, open(format!("node{host}"))?, open(format!("node{host}m"))?];
        let indices = [taps[0].index(), taps[1].index(), taps[2].index()];
        let [control, wires @ ..] = indices;
        self.links.silence_ipv6(control)?;
        self.links.enslave(control, Some(self.bridge))?;
        for wire in wires {
            self.links.silence(wire)?;
            self.links.set_promiscuous(wire, true)?;
        }
        indices.iter().try_for_each(|index| self.links.set_up(*index))?;
        Ok(Wires { taps: taps.map(Tap::into_fd), indices })
    }

    /// Cuts a host off, or joins it again.
    pub fn cut(&mut self, indices: [u32; 3], away: bool) -> Result<()> {
        for index in indices {
            if away { self.links.set_down(index)? } else { self.links.set_up(index)? }
        }
        Ok(())
    }
}

impl Wires {
    /// For [`Network::cut`].
    pub const fn indices(&self) -> [u32; 3] {
        self.indices
    }
}
