use super::{Fabric, FabricConfig, FabricError, GroupPlace, Port};
use crate::links::{LinkSpec, Links};
use crate::netns::NetNs;
use crate::nft::TableOwnership;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

/// Whether this machine can be an edge: makes a namespace with interfaces, puts a fabric in force there, and lets all of
/// it go. Touches nothing outside that namespace.
///
/// # Errors
/// The first thing that this kernel, or this user, cannot do.
pub fn probe() -> Result<TableOwnership, FabricError> {
    let namespace = NetNs::create()?;
    let mut links = Links::open_in(&namespace)?;
    let mut pair =
        |near: &str, far: &str| links.create_veth(&LinkSpec::named(near), &LinkSpec::named(far), namespace.as_fd());
    pair("uplink", "client")?;
    let port = Port { node: 0, data: pair("data", "node")?, mirror: pair("mirror", "node_mirror")? };
    let base = FabricConfig::new("uplink", Ipv4Addr::new(192, 0, 2, 1), [2, 0, 0, 0, 0, 1], &[80]);
    let mut fabric = Fabric::install(&namespace, FabricConfig { ports: vec![port], ..base })?;
    fabric.apply(&[GroupPlace { group: 0, owner: Some(0), mirror: Some(0) }])?;
    fabric.counters()?;
    Ok(fabric.ownership())
}
