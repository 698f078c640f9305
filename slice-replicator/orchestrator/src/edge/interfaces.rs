//! The interfaces of the fabric, as they come and go.

use super::config::{EdgeProcessConfig, NodePorts};
use crate::error::ProcessError;
use escape_fabric::fabric::{Fabric, Port};
use escape_fabric::link_watch::LinkWatch;
use escape_fabric::links::Links;
use escape_fabric::netns::{NetNs, enter_fd};

/// Readings of news per turn; what a storm leaves behind is read in the next ones.
const NEWS_PER_TURN_MAX: usize = 16;

/// The namespace of the interfaces and the configured ports.
#[derive(Debug)]
pub(super) struct Interfaces {
    namespace: NetNs,
    links: Links,
    watch: LinkWatch,
    ports: Vec<NodePorts>,
}

impl Interfaces {
    pub(super) fn open(config: &EdgeProcessConfig) -> Result<Self, ProcessError> {
        let namespace = match config.netns_fd {
            None => NetNs::current()?,
            Some(fd) => namespace_of(fd)?,
        };
        let links = Links::open_in(&namespace)?;
        let watch = LinkWatch::open_in(&namespace)?;
        Ok(Self { links, watch, namespace, ports: config.ports.clone() })
    }

    pub(super) const fn namespace(&self) -> &NetNs {
        &self.namespace
    }

    pub(super) const fn watch(&self) -> &LinkWatch {
        &self.watch
    }

    pub(super) fn index_of(&mut self, name: &str) -> Result<u32, ProcessError> {
        Ok(self.links.index_of(name)?)
    }

    /// Ports of which both interfaces are there.
    pub(super) fn present(&mut self) -> Result<Vec<Port>, ProcessError> {
        let list = self.links.list()?;
        let index = |name: &str| list.iter().find(|link| link.name == name).map(|link| link.index);
        let port =
            |port: &NodePorts| Some(Port { node: port.node, data: index(&port.data)?, mirror: index(&port.mirror)? });
        Ok(self.ports.iter().filter_map(port).collect())
    }

    /// Takes the news; were there any?
    pub(super) fn take_news(&mut self) -> Result<bool, ProcessError> {
        for taken in 0..NEWS_PER_TURN_MAX {
            if self.watch.on_readable()?.is_empty() {
                return Ok(taken > 0);
            }
        }
        Ok(true)
    }

    /// Makes the fabric's ports those that are there; returns the nodes whose port came or went.
    pub(super) fn reconcile(&mut self, fabric: &mut Fabric) -> Result<Vec<u16>, ProcessError> {
        let mut changed = fabric.remove_vanished_ports()?;
        let known: Vec<u16> = fabric.nodes().collect();
        for port in self.present()? {
            if !known.contains(&port.node) {
                fabric.add_port(port)?;
                changed.push(port.node);
            }
        }
        Ok(changed)
    }
}

/// The namespace behind an inherited descriptor.
fn namespace_of(fd: u32) -> Result<NetNs, ProcessError> {
    let failed = || ProcessError::system("network namespace of the edge");
    let fd = i32::try_from(fd).map_err(|_| failed()(std::io::ErrorKind::InvalidInput.into()))?;
    // A thread of its own enters it: the process's other sockets stay where they are.
    let entered = std::thread::spawn(move || {
        enter_fd(fd).map_err(ProcessError::system("entering the network namespace of the edge"))?;
        Ok(NetNs::current()?)
    });
    entered.join().map_err(|_| failed()(std::io::ErrorKind::Other.into()))?
}
