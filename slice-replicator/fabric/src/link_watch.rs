//! News about the interfaces of one namespace.

use std::os::fd::{AsFd, BorrowedFd};

use crate::links::{LinkError, parse_link};
use crate::netlink::{NetlinkError, NetlinkSocket};
use crate::netns::NetNs;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
/// Multicast group of links (`RTMGRP_LINK`).
const LINK_NEWS: u32 = 1;
/// Datagrams read per call, so that a storm of news cannot keep the caller from its other work.
const DATAGRAMS_PER_CALL_MAX: usize = 64;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// An interface came, or changed.
    Present {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// Whether it is set up.
        up: bool,
    },
    /// An interface is gone (removed, or moved to another namespace).
    Gone {
        /// Its former index.
        index: u32,
        /// Its former name.
        name: String,
    },
    /// News were lost: look at all interfaces again.
    Lost,
}

/// A descriptor that becomes readable when an interface of the namespace comes, changes or goes: the fabric's entries
/// name interfaces by index and must not outlive them.
#[derive(Debug)]
pub struct LinkWatch {
    socket: NetlinkSocket,
}

impl LinkWatch {
    /// Watches `namespace` from now on.
    pub fn open_in(namespace: &NetNs) -> Result<Self, LinkError> {
        let socket = namespace.enter(|| NetlinkSocket::open(libc::NETLINK_ROUTE, LINK_NEWS))??;
        Ok(Self { socket })
    }

    /// The news so far, at most those of 64 datagrams (call again while the descriptor is readable). Never waits.
    pub fn on_readable(&mut self) -> Result<Vec<LinkEvent>, LinkError> {
        let mut events = Vec::new();
        for _ in 0..DATAGRAMS_PER_CALL_MAX {
            match self.socket.receive_now("news of interfaces") {
                Ok(None) => break,
                Ok(Some(messages)) => events.extend(messages.iter().filter_map(|message| {
                    let link = parse_link(message).ok()?;
                    match message.kind {
                        RTM_NEWLINK => Some(LinkEvent::Present { index: link.index, name: link.name, up: link.up }),
                        RTM_DELLINK => Some(LinkEvent::Gone { index: link.index, name: link.name }),
                        _ => None,
                    }
                })),
                Err(error) if overrun(&error) => events.push(LinkEvent::Lost),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(events)
    }
}

fn overrun(error: &NetlinkError) -> bool {
    matches!(error, NetlinkError::Receive { source, .. } if source.raw_os_error() == Some(libc::ENOBUFS))
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
