//! The fabric: what carries client frames to the node that owns their group, a copy of them to the standby, and answers
//! back; and what keeps every other frame out.
//!
//! On an edge machine it is a handful of interfaces in a network namespace and one nf_tables table of the `netdev`
//! family. Everything here speaks to the kernel through netlink sockets and ioctls; no external program is run.
//!
//! | module | what it is |
//! |---|---|
//! | [`netns`] | unnamed network namespaces that vanish with their last descriptor |
//! | [`netlink`] | one request, one acknowledgement; dumps; batches; every wait has a limit |
//! | [`links`], [`link_watch`], [`tap`] | interfaces: veth, bridge, tap, addresses, routes, neighbours, and news about them |
//! | [`nft`] | encoder of nf_tables transactions, reader of counters and elements |
//! | [`fabric`] | [`fabric::Fabric`]: flows → groups → nodes, flipped in one transaction |
//! | [`arp`] | answers for the service address, which no interface of the edge owns |
//!
//! The edge machine is little-endian (the placement hash is laid out as such machines lay registers; see
//! [`fabric::bucket_of`]).
//!
//! Safety of sessions never depends on this crate (a node without its standby's acknowledgement releases nothing);
//! availability does.

#[cfg(not(target_endian = "little"))]
compile_error!("bucket_of repeats the placement hash of little-endian kernels only");

pub mod arp;
pub mod fabric;
pub mod link_watch;
pub mod links;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod tap;

mod errno_advice;
mod raw_socket;

/// Number of a node in its cell, as the store knows it.
pub type NodeId = u16;

/// Number of a group; never reused (invariant I2), so a late entry of an old group can steer no new one.
pub type GroupId = u32;

/// A 48-bit Ethernet address in transmission order.
pub type MacAddress = [u8; 6];
