//! Interfaces of one network namespace, changed through rtnetlink.
//!
//! Source: `include/uapi/linux/{rtnetlink,if_link,if_addr,neighbour,veth}.h`.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use thiserror::Error;

use crate::MacAddress;
use crate::netlink::{Attributes, Encoder, Message, NetlinkError, NetlinkSocket};
use crate::netns::{NetNs, NetNsError};

/// Length of `struct ifinfomsg`.
const LINK_HEADER_LEN: usize = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const NUD_PERMANENT: u16 = 0x80;

/// What can go wrong when links are changed.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The kernel refused, or could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The namespace could not be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// A name that no interface can have.
    #[error("interface name {name:?} is not usable: 1 to 15 bytes without '/', ':', space or zero, not '.' or '..'")]
    BadName {
        /// The name.
        name: String,
    },
    /// The kernel described an interface in a way that makes no sense.
    #[error("the kernel's description of interface {which} lacks {missing}")]
    Incomplete {
        /// Name or index that was asked for.
        which: String,
        /// The missing part.
        missing: &'static str,
    },
}

/// What to make one end of a link with.
#[derive(Debug, Clone, Copy)]
pub struct LinkSpec<'a> {
    /// Name, 1 to 15 bytes.
    pub name: &'a str,
    /// Ethernet address; `None` = the kernel picks one at random.
    pub mac: Option<MacAddress>,
    /// Largest packet without Ethernet header, bytes; `None` = 1500.
    pub mtu: Option<u32>,
}

impl<'a> LinkSpec<'a> {
    /// An end with this name and the kernel's choice of the rest.
    pub const fn named(name: &'a str) -> Self {
        Self { name, mac: None, mtu: None }
    }
}

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Number in its namespace, from 1.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Ethernet address; zero for interfaces that have none.
    pub mac: MacAddress,
    /// Largest packet without Ethernet header, bytes.
    pub mtu: u32,
    /// Frames that may wait to be sent.
    pub queue: u32,
    /// Whether it is set up (administratively).
    pub up: bool,
    /// Bridge that it belongs to.
    pub master: Option<u32>,
}

/// Changes the interfaces of one network namespace.
#[derive(Debug)]
pub struct Links {
    socket: NetlinkSocket,
}

impl Links {
    /// Works in the calling thread's namespace.
    pub fn open_here() -> Result<Self, LinkError> {
        Ok(Self { socket: NetlinkSocket::open(libc::NETLINK_ROUTE, 0)? })
    }

    /// Works in `namespace`, from whichever thread.
    pub fn open_in(namespace: &NetNs) -> Result<Self, LinkError> {
        namespace.enter(Self::open_here)?
    }

    /// Makes a veth pair: one end here, the other in the namespace behind `far_namespace`. Returns this end's index.
    /// Frames pass once both ends are up and the kernel has noticed, which can take it a moment (taps pass at once).
    pub fn create_veth(
        &mut self,
        near: &LinkSpec<'_>,
        far: &LinkSpec<'_>,
        far_namespace: BorrowedFd<'_>,
    ) -> Result<u32, LinkError> {
        check_name(near.name)?;
        check_name(far.name)?;
        let far_fd = far_namespace.as_raw_fd().unsigned_abs();
        let what = format!("creation of veth pair {} - {}", near.name, far.name);
        self.socket.request(&what, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, |m| {
            link_header(m, 0, 0, 0);
            put_spec(m, near);
            m.nested(IFLA_LINKINFO, |m| {
                m.text(IFLA_INFO_KIND, "veth");
                m.nested(IFLA_INFO_DATA, |m| {
                    m.nested(VETH_INFO_PEER, |m| {
                        link_header(m, 0, 0, 0);
                        put_spec(m, far);
                        m.u32(IFLA_NET_NS_FD, far_fd);
                    });
                });
            });
        })?;
        self.index_of(near.name)
    }

    /// Makes a bridge. Returns its index.
    pub fn create_bridge(&mut self, spec: &LinkSpec<'_>) -> Result<u32, LinkError> {
        check_name(spec.name)?;
        let what = format!("creation of bridge {}", spec.name);
        self.socket.request(&what, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, |m| {
            link_header(m, 0, 0, 0);
            put_spec(m, spec);
            m.nested(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "bridge"));
        })?;
        self.index_of(spec.name)
    }

    /// Puts an interface under a bridge, or takes it out (`None`).
    pub fn enslave(&mut self, index: u32, master: Option<u32>) -> Result<(), LinkError> {
        self.set(index, "master", |m| m.u32(IFLA_MASTER, master.unwrap_or(0)))
    }

    /// Sets an interface up.
    pub fn set_up(&mut self, index: u32) -> Result<(), LinkError> {
        self.set_flags(index, "state up", libc::IFF_UP.unsigned_abs(), true)
    }

    /// Sets an interface down.
    pub fn set_down(&mut self, index: u32) -> Result<(), LinkError> {
        self.set_flags(index, "state down", libc::IFF_UP.unsigned_abs(), false)
    }

    /// Receives frames for other addresses too: needed where the service's Ethernet address is not the interface's own.
    pub fn set_promiscuous(&mut self, index: u32, on: bool) -> Result<(), LinkError> {
        self.set_flags(index, "promiscuous mode", libc::IFF_PROMISC.unsigned_abs(), on)
    }

    /// Keeps the edge's own kernel from talking on an interface: no ARP, no IPv6. Set before the interface goes up.
    pub fn silence(&mut self, index: u32) -> Result<(), LinkError> {
        self.set_arp(index, false)?;
        self.silence_ipv6(index)
    }

    /// Whether the kernel asks and answers by ARP on an interface.
    pub fn set_arp(&mut self, index: u32, on: bool) -> Result<(), LinkError> {
        let what = if on { "ARP on" } else { "ARP off" };
        self.set_flags(index, what, libc::IFF_NOARP.unsigned_abs(), !on)
    }

    /// Gives an interface no automatic IPv6 address, hence no neighbour discovery and no multicast reports. Set before
    /// the interface goes up.
    pub fn silence_ipv6(&mut self, index: u32) -> Result<(), LinkError> {
        let quiet = self.set(index, "IPv6 address mode", |m| {
            m.nested(IFLA_AF_SPEC, |m| {
                m.nested(libc::AF_INET6 as u16, |m| {
                    m.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
                });
            });
        });
        match quiet {
            // A kernel without IPv6 is silent as it is.
            Err(LinkError::Netlink(error)) if error.refusal() == Some(libc::EAFNOSUPPORT) => Ok(()),
            other => other,
        }
    }

    /// Sets the Ethernet address.
    pub fn set_mac(&mut self, index: u32, mac: MacAddress) -> Result<(), LinkError> {
        self.set(index, "address", |m| m.attribute(IFLA_ADDRESS, &mac))
    }

    /// Sets the largest packet, bytes without Ethernet header.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), LinkError> {
        self.set(index, "MTU", |m| m.u32(IFLA_MTU, mtu))
    }

    /// Frames that may wait to be sent; of a tap, to be read. Further ones are dropped.
    pub fn set_queue(&mut self, index: u32, frames: u32) -> Result<(), LinkError> {
        self.set(index, "queue length", |m| m.u32(IFLA_TXQLEN, frames))
    }

    /// Renames an interface (older kernels want it down for that).
    pub fn rename(&mut self, index: u32, name: &str) -> Result<(), LinkError> {
        check_name(name)?;
        self.set(index, "name", |m| m.text(IFLA_IFNAME, name))
    }

    /// Moves an interface into another namespace. It keeps its name, loses its addresses, and is down there.
    pub fn move_to(&mut self, index: u32, namespace: BorrowedFd<'_>) -> Result<(), LinkError> {
        let fd = namespace.as_raw_fd().unsigned_abs();
        self.set(index, "namespace", |m| m.u32(IFLA_NET_NS_FD, fd))
    }

    /// Removes an interface (a veth's other end goes with it).
    pub fn delete(&mut self, index: u32) -> Result<(), LinkError> {
        let what = format!("removal of interface {index}");
        Ok(self.socket.request(&what, RTM_DELLINK, 0, |m| link_header(m, index, 0, 0))?)
    }

    /// Gives an interface an IPv4 address.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), LinkError> {
        let what = format!("address {address}/{prefix} on interface {index}");
        Ok(self.socket.request(&what, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, |m| {
            m.raw(&[libc::AF_INET as u8, prefix, 0, 0]);
            m.raw(&index.to_ne_bytes());
            m.attribute(2, &address.octets()); // IFA_LOCAL
            m.attribute(1, &address.octets()); // IFA_ADDRESS
        })?)
    }

    /// Adds an IPv4 route: `destination` (`None` = everything) through interface `index`, by way of `gateway` if given.
    pub fn add_route(
        &mut self,
        destination: Option<(Ipv4Addr, u8)>,
        gateway: Option<Ipv4Addr>,
        index: u32,
    ) -> Result<(), LinkError> {
        let what = format!("route to {destination:?} by {gateway:?} on interface {index}");
        let prefix = destination.map_or(0, |(_, prefix)| prefix);
        // RT_SCOPE_LINK for neighbours, RT_SCOPE_UNIVERSE behind a gateway.
        let scope = if gateway.is_some() { 0 } else { 253 };
        Ok(self.socket.request(&what, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, |m| {
            // struct rtmsg: table MAIN, protocol STATIC, type UNICAST.
            m.raw(&[libc::AF_INET as u8, prefix, 0, 0, 254, 4, scope, 1, 0, 0, 0, 0]);
            if let Some((network, _)) = destination {
                m.attribute(1, &network.octets()); // RTA_DST
            }
            if let Some(gateway) = gateway {
                m.attribute(5, &gateway.octets()); // RTA_GATEWAY
            }
            m.u32(4, index); // RTA_OIF
        })?)
    }

    /// Writes (or replaces) a permanent neighbour entry: who asks for `address` on this interface is told `mac`.
    pub fn set_neighbour(&mut self, index: u32, address: Ipv4Addr, mac: MacAddress) -> Result<(), LinkError> {
        let what = format!("neighbour {address} on interface {index}");
        Ok(self.socket.request(&what, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, |m| {
            m.raw(&[libc::AF_INET as u8, 0, 0, 0]);
            m.raw(&index.to_ne_bytes());
            let [low, high] = NUD_PERMANENT.to_ne_bytes();
            m.raw(&[low, high, 0, 0]);
            m.attribute(1, &address.octets()); // NDA_DST
            m.attribute(2, &mac); // NDA_LLADDR
        })?)
    }

    /// Index of the interface with this name.
    pub fn index_of(&mut self, name: &str) -> Result<u32, LinkError> {
        check_name(name)?;
        let what = format!("interface {name:?}");
        let answers = self.socket.ask(&what, RTM_GETLINK, |m| {
            link_header(m, 0, 0, 0);
            m.text(IFLA_IFNAME, name);
        })?;
        Ok(first_link(&answers, name)?.index)
    }

    /// What the kernel knows about an interface.
    pub fn describe(&mut self, index: u32) -> Result<LinkInfo, LinkError> {
        let what = format!("interface {index}");
        let answers = self.socket.ask(&what, RTM_GETLINK, |m| link_header(m, index, 0, 0))?;
        first_link(&answers, &index.to_string())
    }

    /// All interfaces of the namespace.
    pub fn list(&mut self) -> Result<Vec<LinkInfo>, LinkError> {
        let answers = self.socket.dump("list of interfaces", RTM_GETLINK, |m| link_header(m, 0, 0, 0))?;
        Ok(answers.iter().filter_map(|answer| parse_link(answer).ok()).collect())
    }

    fn set_flags(&mut self, index: u32, what: &str, mask: u32, on: bool) -> Result<(), LinkError> {
        let what = format!("{what} of interface {index}");
        let flags = if on { mask } else { 0 };
        Ok(self.socket.request(&what, RTM_SETLINK, 0, |m| link_header(m, index, flags, mask))?)
    }

    fn set(&mut self, index: u32, what: &str, body: impl FnOnce(&mut Encoder)) -> Result<(), LinkError> {
        let what = format!("{what} of interface {index}");
        Ok(self.socket.request(&what, RTM_SETLINK, 0, |m| {
            link_header(m, index, 0, 0);
            body(m);
        })?)
    }
}

/// Whether the kernel takes `name` for an interface (`dev_valid_name`).
///
/// # Errors
/// [`LinkError::BadName`] tells what a name may be.
pub fn check_name(name: &str) -> Result<(), LinkError> {
    let usable = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace());
    if usable { Ok(()) } else { Err(LinkError::BadName { name: name.to_owned() }) }
}

/// `struct ifinfomsg`.
fn link_header(encoder: &mut Encoder, index: u32, flags: u32, change: u32) {
    encoder.raw(&[0; 4]);
    for word in [index, flags, change] {
        encoder.raw(&word.to_ne_bytes());
    }
}

fn put_spec(encoder: &mut Encoder, spec: &LinkSpec<'_>) {
    encoder.text(IFLA_IFNAME, spec.name);
    if let Some(mac) = spec.mac {
        encoder.attribute(IFLA_ADDRESS, &mac);
    }
    if let Some(mtu) = spec.mtu {
        encoder.u32(IFLA_MTU, mtu);
    }
}

fn first_link(answers: &[Message], which: &str) -> Result<LinkInfo, LinkError> {
    let incomplete = |missing| LinkError::Incomplete { which: which.to_owned(), missing };
    let answer = answers.iter().find(|answer| answer.kind == RTM_NEWLINK).ok_or_else(|| incomplete("everything"))?;
    parse_link(answer).map_err(incomplete)
}

/// Reads an RTM_NEWLINK or RTM_DELLINK; the error names what is missing.
pub(crate) fn parse_link(message: &Message) -> Result<LinkInfo, &'static str> {
    if !matches!(message.kind, RTM_NEWLINK | RTM_DELLINK) {
        return Err("a link message");
    }
    let word = |from: usize| Some(u32::from_ne_bytes(message.body.get(from..from + 4)?.try_into().ok()?));
    let index = word(4).ok_or("its index")?;
    let flags = word(8).ok_or("its flags")?;
    let attributes: Attributes<'_> = message.attributes(LINK_HEADER_LEN);
    Ok(LinkInfo {
        index,
        name: attributes.text(IFLA_IFNAME).ok_or("its name")?.to_owned(),
        mac: attributes.find(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).unwrap_or_default(),
        mtu: attributes.u32(IFLA_MTU).unwrap_or(0),
        queue: attributes.u32(IFLA_TXQLEN).unwrap_or(0),
        up: flags & libc::IFF_UP.unsigned_abs() != 0,
        master: attributes.u32(IFLA_MASTER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_can_have_are_refused_before_the_kernel_sees_them() {
        for name in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-bytes-xx", "z\0"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["lo", "fifteen-bytes-x", "é1"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
