//! Who is at the other end of an open link.

use escape_proto::{Hello, Incarnation, Member, Role};
use std::net::SocketAddr;

/// The other end as its certificate proved it and its hello told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its role; the certificate says the same.
    pub role: Role,
    /// Its life (0 = it has not joined).
    pub inc: Incarnation,
    /// Its cluster (all zero = it has not joined).
    pub cluster: [u8; 16],
    /// 0 = commits, 1 = bulk copies.
    pub channel: u8,
    /// Its address.
    pub addr: SocketAddr,
}

impl Peer {
    pub(crate) const fn new(hello: &Hello, channel: u8, addr: SocketAddr) -> Self {
        Self { role: hello.from, inc: hello.inc, cluster: hello.cluster, channel, addr }
    }

    /// The life of a node; `None` for other roles and for nodes that have not joined.
    pub const fn member(&self) -> Option<Member> {
        match self.role {
            Role::Node(node) if self.inc.0 != 0 => Some(Member { node, inc: self.inc }),
            _ => None,
        }
    }
}
