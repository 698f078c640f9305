//! An edge in a namespace of its own, with taps for uplink and nodes.

use super::fake_node::FakeNode;
use super::running::RunningOrchestrator;
use super::{Folder, PATIENCE};
use escape_fabric::netns::NetNs;
use escape_fabric::tap::{Tap, TapLifetime};
use escape_link::{ClusterAuthority, Link, LinkLimits};
use escape_orchestrator::{EdgeProcess, EdgeProcessConfig, NodePorts, OutputPlace};
use escape_proto::{EdgeReply, EdgeRequest, Epoch, GroupId, Hello, Incarnation, Member, PROTOCOL_VERSION, Role};
use mio::{Events, Poll, Token};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const SERVICE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 80];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const VNET_HEADER: usize = 12;
pub const SYN: u8 = 2;
pub const ACK: u8 = 0x10;

/// One end of a cable: frames written arrive at the edge's interface.
pub struct Cable(File);

impl Cable {
    pub fn new(namespace: &NetNs, name: &str) -> Self {
        Self(File::from(Tap::open_in(namespace, name, TapLifetime::Persistent).unwrap().into_fd()))
    }

    pub fn send(&mut self, frame: &[u8]) {
        self.0.write_all(&[&[0; VNET_HEADER], frame].concat()).unwrap();
    }

    /// The next IPv4 frame, within 200 ms.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let start = Instant::now();
        let mut bytes = [0; 2048];
        while start.elapsed() < Duration::from_millis(200) {
            match self.0.read(&mut bytes) {
                Ok(n) if n > VNET_HEADER + 14 && bytes[VNET_HEADER + 12..VNET_HEADER + 14] == [8, 0] => {
                    return Some(bytes[VNET_HEADER..n].to_vec());
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        None
    }
}

/// A segment of the client `10.1.0.1:port`, or of the service to it.
pub fn segment(from_client: bool, port: u16, flags: u8) -> Vec<u8> {
    let client = (CLIENT_MAC, [10, 1, 0, 1], port);
    let service = (SERVICE_MAC, [10, 1, 0, 80], 80);
    let (from, to) = if from_client { (client, service) } else { (service, client) };
    let mut frame = [to.0, from.0].concat();
    frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&from.1);
    frame.extend_from_slice(&to.1);
    frame.extend_from_slice(&from.2.to_be_bytes());
    frame.extend_from_slice(&to.2.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

pub fn config(
    authority: &ClusterAuthority,
    folder: &Folder,
    namespace: &NetNs,
    orchestrator: &RunningOrchestrator,
) -> EdgeProcessConfig {
    let ports = |node| NodePorts { node, data: format!("data{node}"), mirror: format!("mirror{node}") };
    EdgeProcessConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        orchestrator: orchestrator.links,
        netns_fd: Some(namespace.as_fd().as_raw_fd().unsigned_abs()),
        uplink: "uplink".into(),
        ports: vec![ports(1), ports(2)],
        service_ip: [10, 1, 0, 80].into(),
        service_mac: SERVICE_MAC,
        tcp_ports: vec![80],
        learned_expiry_s: 60,
        slice_per_client: false,
        real_time: true,
        events: Some(OutputPlace::Path(folder.file("edge.jsonl"))),
        metrics: None,
        broken: None,
        secrets: authority.issue(Role::Edge).unwrap(),
    }
}

/// An edge on a thread of the test.
pub struct RunningEdge {
    pub links: SocketAddr,
    stop: Arc<AtomicBool>,
    questions: SyncSender<()>,
    answers: Receiver<Value>,
    thread: Option<JoinHandle<()>>,
}

impl RunningEdge {
    pub fn start(config: EdgeProcessConfig) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (addresses, told) = channel();
        let (questions, asked) = sync_channel(1);
        let (answer, answers) = channel();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut process = EdgeProcess::start(config).unwrap();
            addresses.send(process.link_addr()).unwrap();
            while process.turn().unwrap() && !stopped.load(Ordering::Relaxed) {
                if asked.try_recv().is_ok() {
                    answer.send(process.counters()).unwrap();
                }
            }
        });
        Self { links: told.recv().unwrap(), stop, questions, answers, thread: Some(thread) }
    }

    pub fn counters(&self) -> Value {
        self.questions.send(()).unwrap();
        self.answers.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for RunningEdge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A node's link to the edge.
pub struct EdgeCaller {
    link: Link,
    poll: Poll,
    events: Events,
    pub replies: Vec<EdgeReply>,
}

impl EdgeCaller {
    pub fn connect(authority: &ClusterAuthority, edge: &RunningEdge, me: Member) -> Self {
        let role = Role::Node(me.node);
        let nobody = Incarnation(0);
        let hello =
            Hello { version: PROTOCOL_VERSION, cluster: [0; 16], from: role, inc: me.inc, expect: nobody, channel: 0 };
        let identity = authority.issue(role).unwrap().identity().unwrap();
        let limits = LinkLimits::default();
        let mut link = Link::connect(edge.links, &identity, Role::Edge, hello, limits, Instant::now()).unwrap();
        let poll = Poll::new().unwrap();
        link.register(poll.registry(), Token(0)).unwrap();
        let mut caller = Self { link, poll, events: Events::with_capacity(8), replies: Vec::new() };
        caller.until("an open link to the edge", |caller| caller.link.is_open());
        caller
    }

    /// Says that the gates of all groups that the node's records give it are closed, until the edge has flipped them.
    pub fn flip(&mut self, node: &FakeNode) {
        let groups: Vec<(GroupId, Epoch)> = node.owned().iter().map(|group| (group.group, group.epoch)).collect();
        self.replies.clear();
        let mut asked = None;
        self.until("a flip", |caller| {
            if asked.is_none_or(|at: Instant| at.elapsed() > Duration::from_millis(20)) {
                asked = Some(Instant::now());
                caller.link.send(&EdgeRequest::GateClosed { groups: groups.clone() }).unwrap();
                caller.link.flush().unwrap();
            }
            let flipped =
                |reply: &EdgeReply, group| matches!(reply, EdgeReply::Flipped { groups } if groups.contains(group));
            groups.iter().all(|group| caller.replies.iter().any(|reply| flipped(reply, group)))
        });
    }

    pub fn ask(&mut self, request: &EdgeRequest) {
        self.link.send(request).unwrap();
        self.link.flush().unwrap();
    }

    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited too long: {what}; {:?}", self.replies);
            self.poll.poll(&mut self.events, Some(Duration::from_millis(1))).unwrap();
            for event in &self.events {
                self.link.on_event(event).unwrap();
            }
            while let Some(reply) = self.link.next_message().unwrap() {
                self.replies.push(reply);
            }
        }
    }
}
