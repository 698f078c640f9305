//! An edge in a namespace of its own whose uplink and node ports are taps: the test writes and reads their frames.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used)]

pub mod frames;
pub mod random;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use escape_fabric::fabric::{Fabric, FabricConfig, Port};
use escape_fabric::links::Links;
use escape_fabric::netns::NetNs;
use escape_fabric::nft::Removal;
use escape_fabric::tap::{Tap, TapLifetime, VNET_HEADER_LEN};
use escape_fabric::{MacAddress, NodeId};

pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub const SERVICE_MAC: MacAddress = [0x02, 0xec, 0, 0, 0, 1];
pub const CLIENT_MAC: MacAddress = [0x02, 0xc1, 0, 0, 0, 2];
pub const PORT: u16 = 8080;
pub const SEED: u32 = 0x5eed_1234;

/// How long a frame that must come is waited for.
const COMES_WITHIN: Duration = Duration::from_secs(2);
/// How long a frame that must not come is waited for; taps deliver while the frame is being written.
const STAYS_AWAY_FOR: Duration = Duration::from_millis(30);

/// Whether tests that need root can run; says loudly if not.
pub fn can_run() -> bool {
    // SAFETY: takes and returns plain numbers.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("SKIPPED: this test makes network namespaces and taps, it needs root");
    }
    root
}

/// The far end of an interface: writes what the interface receives, reads what it sends.
pub struct Wire {
    file: File,
    pub index: u32,
}

impl Wire {
    pub fn open(namespace: &NetNs, name: &str) -> Self {
        let tap = Tap::open_in(namespace, name, TapLifetime::WithDescriptor).unwrap();
        Self { index: tap.index(), file: tap.into_fd().into() }
    }

    pub fn send(&mut self, frame: &[u8]) {
        let mut with_header = vec![0u8; VNET_HEADER_LEN as usize];
        with_header.extend_from_slice(frame);
        assert_eq!(self.file.write(&with_header).unwrap(), with_header.len());
    }

    /// The next frame, if it comes soon.
    pub fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0u8; 4096];
        loop {
            match self.file.read(&mut buffer) {
                Ok(length) => return Some(buffer[VNET_HEADER_LEN as usize..length].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("tap {}: {error}", self.index),
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    #[track_caller]
    pub fn must_receive(&mut self, frame: &[u8]) {
        assert_eq!(self.receive(COMES_WITHIN).as_deref(), Some(frame), "frame from interface {}", self.index);
    }

    #[track_caller]
    pub fn must_be_silent(&mut self) {
        assert_eq!(self.receive(STAYS_AWAY_FOR), None, "frame from interface {}", self.index);
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

pub struct NodePort {
    pub node: NodeId,
    pub data: Wire,
    pub mirror: Wire,
}

impl NodePort {
    pub fn open(namespace: &NetNs, node: NodeId) -> Self {
        let data = Wire::open(namespace, &format!("data{node}"));
        Self { node, data, mirror: Wire::open(namespace, &format!("mirror{node}")) }
    }

    pub fn port(&self) -> Port {
        Port { node: self.node, data: self.data.index, mirror: self.mirror.index }
    }
}

pub struct Bed {
    pub namespace: NetNs,
    pub uplink: Wire,
    pub nodes: Vec<NodePort>,
    /// How the fabric removes; `None`: as this kernel wants it.
    pub removal: Option<Removal>,
}

/// Runs a test as on this kernel, and as on one that has no removals of what is not there (before Linux 6.3).
pub fn on_new_and_old_kernels(test: impl Fn(Option<Removal>)) {
    if can_run() {
        [None, Some(Removal::Delete)].into_iter().for_each(test);
    }
}

impl Bed {
    /// An edge with nodes 0, 1, … and no fabric yet.
    pub fn new(nodes: NodeId) -> Self {
        let namespace = NetNs::create().unwrap();
        let uplink = Wire::open(&namespace, "uplink");
        let nodes = (0..nodes).map(|node| NodePort::open(&namespace, node)).collect();
        Self { namespace, uplink, nodes, removal: None }
    }

    /// The same for a fabric that removes so.
    pub fn removing(nodes: NodeId, removal: Option<Removal>) -> Self {
        Self { removal, ..Self::new(nodes) }
    }

    pub fn config(&self) -> FabricConfig {
        FabricConfig {
            ports: self.nodes.iter().map(NodePort::port).collect(),
            hash_seed: SEED,
            removal: self.removal,
            ..FabricConfig::new("uplink", SERVICE, SERVICE_MAC, &[PORT, 9090])
        }
    }

    pub fn install(&self) -> Fabric {
        Fabric::install(&self.namespace, self.config()).unwrap()
    }

    pub fn links(&self) -> Links {
        Links::open_in(&self.namespace).unwrap()
    }
}

/// Sorted durations as a sentence.
pub fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("p50 {:?}, max {:?} of {}", times[times.len() / 2], times[times.len() - 1], times.len())
}
