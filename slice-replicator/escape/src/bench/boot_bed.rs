//! Two namespaces for `escape bench boot`: a host with a bridge and a tap, and a client beside it.

use super::error::BenchError;
use crate::cell::{CellSetupError, SERVICE_IP, SERVICE_MAC};
use crate::config::{ImageFile, MacAddress};
use escape_fabric::links::{LinkError, LinkSpec, Links};
use escape_fabric::netns::NetNs;
use escape_fabric::tap::{Tap, TapLifetime};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

const TAP: &str = "escape0";
const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const PREFIX: u8 = 16;

/// The network. It vanishes when this is dropped and the last guest has ended.
#[derive(Debug)]
pub(super) struct BootBed {
    /// Where `escape boot` runs.
    pub(super) host: NetNs,
    /// Where the client is.
    pub(super) client: NetNs,
    file: ImageFile,
}

impl BootBed {
    /// Makes namespaces, bridge, veth and tap.
    pub(super) fn make() -> Result<Self, BenchError> {
        let failed = || BenchError::setup("network of the guest");
        let (host, client) = (NetNs::create().map_err(failed())?, NetNs::create().map_err(failed())?);
        connect(&host, &client).map_err(BenchError::setup("links of the guest"))?;
        // Persistent: the interface stays where one guest ends and the next begins.
        Tap::open_in(&host, TAP, TapLifetime::Persistent).map_err(BenchError::setup("tap of the guest"))?;
        let enslaved = bridge_tap(&host);
        enslaved.map_err(BenchError::setup("tap of the guest"))?;
        let file = ImageFile { tap: TAP.into(), ip: SERVICE_IP, mac: MacAddress(SERVICE_MAC), ..ImageFile::default() };
        Ok(Self { host, client, file })
    }

    /// The image file of `escape boot`.
    pub(super) fn image_file(&self) -> Result<String, BenchError> {
        let print = toml::to_string(&self.file);
        print
            .map_err(|source| CellSetupError::Config { what: "the guest".into(), source })
            .map_err(BenchError::setup("image file"))
    }

    /// Where the guest answers.
    pub(super) fn service(&self) -> SocketAddr {
        (SERVICE_IP, self.file.http_port).into()
    }
}

fn connect(host: &NetNs, client: &NetNs) -> Result<(), LinkError> {
    let mut links = Links::open_in(host)?;
    let bridge = links.create_bridge(&LinkSpec::named("br0"))?;
    links.silence_ipv6(bridge)?;
    links.set_up(bridge)?;
    let near = links.create_veth(&LinkSpec::named("h0"), &LinkSpec::named("c0"), client.as_fd())?;
    links.silence(near)?;
    links.enslave(near, Some(bridge))?;
    links.set_up(near)?;
    let mut links = Links::open_in(client)?;
    let far = links.index_of("c0")?;
    links.add_address(far, CLIENT_IP, PREFIX)?;
    links.set_up(far)?;
    // As any client has it that has spoken to the service before; else the first packet waits for a second ARP request.
    links.set_neighbour(far, SERVICE_IP, SERVICE_MAC)
}

fn bridge_tap(host: &NetNs) -> Result<(), LinkError> {
    let mut links = Links::open_in(host)?;
    let (tap, bridge) = (links.index_of(TAP)?, links.index_of("br0")?);
    links.enslave(tap, Some(bridge))
}
