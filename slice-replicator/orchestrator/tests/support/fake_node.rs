//! A node without guest and VMM: it joins, beats, suspects, and follows its records.

use super::PATIENCE;
use super::running::RunningOrchestrator;
use escape_engine::{Suspicion, SuspicionConfig};
use escape_link::{ClusterAuthority, Link, LinkLimits};
use escape_orchestrator::now_us;
use escape_proto::{
    Beat, CasOutcome, FromOrchestrator, GroupId, GroupRecord, Hello, Incarnation, JoinReply, JoinRequest, Member,
    NodeId, NodeRecord, PROTOCOL_VERSION, Revision, Role, ToOrchestrator,
};
use mio::{Events, Poll, Token};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

pub struct FakeNode {
    pub id: NodeId,
    pub me: Option<Member>,
    pub refused: Option<String>,
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    pub groups: BTreeMap<GroupId, GroupRecord>,
    pub outcomes: BTreeMap<u64, CasOutcome>,
    pub revision: Revision,
    /// When each group's latest record came, and when the last beat left.
    pub learned_us: BTreeMap<GroupId, u64>,
    pub beat_us: u64,
    pub beating: bool,
    pub suspicion: Suspicion,
    link: Link,
    poll: Poll,
    events: Events,
    key: [u8; 32],
    socket: UdpSocket,
    seq: u64,
    pub suspects: u32,
}

impl FakeNode {
    /// Connects; `inc` other than 0: as a member that joined before.
    pub fn connect(authority: &ClusterAuthority, to: &RunningOrchestrator, id: u16, inc: u64) -> Self {
        let secrets = authority.issue(Role::Node(NodeId(id))).unwrap();
        let hello = Hello {
            version: PROTOCOL_VERSION,
            cluster: [0; 16],
            from: Role::Node(NodeId(id)),
            inc: Incarnation(inc),
            expect: Incarnation(0),
            channel: 0,
        };
        let identity = secrets.identity().unwrap();
        let mut link =
            Link::connect(to.links, &identity, Role::Orchestrator, hello, LinkLimits::default(), Instant::now())
                .unwrap();
        let poll = Poll::new().unwrap();
        link.register(poll.registry(), Token(0)).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to.beats).unwrap();
        let member = Member { node: NodeId(id), inc: Incarnation(inc) };
        Self {
            id: NodeId(id),
            me: (inc != 0).then_some(member),
            refused: None,
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            revision: Revision(0),
            learned_us: BTreeMap::new(),
            beat_us: 0,
            beating: false,
            suspicion: Suspicion::new(SuspicionConfig::default()),
            link,
            poll,
            events: Events::with_capacity(8),
            key: secrets.heartbeat_key.0,
            socket,
            seq: 0,
            suspects: 0,
        }
    }

    /// Connects and joins.
    pub fn join(authority: &ClusterAuthority, to: &RunningOrchestrator, id: u16) -> Self {
        let mut node = Self::connect(authority, to, id, 0);
        until("an open link", &mut [&mut node], |nodes| nodes[0].link.is_open());
        node.ask(&ToOrchestrator::Join(JoinRequest {
            host: format!("host-{id}"),
            digest: [1; 32],
            addr: format!("127.0.0.1:{}", 4000 + id),
            leases: 1,
            seen: Revision(0),
            cluster: None,
            memory: 0,
        }));
        until("a join", &mut [&mut node], |nodes| nodes[0].me.is_some() && !nodes[0].groups.is_empty());
        node.beating = true;
        node
    }

    pub fn ask(&mut self, message: &ToOrchestrator) {
        self.link.send(message).unwrap();
        self.link.flush().unwrap();
    }

    pub fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// Groups of which the node's records say that it is the owner.
    pub fn owned(&self) -> Vec<GroupRecord> {
        self.groups.values().filter(|group| Some(group.owner) == self.me).copied().collect()
    }

    pub fn turn(&mut self) {
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).unwrap();
        for event in &self.events {
            if let Err(error) = self.link.on_event(event) {
                println!("node {}: {error}", self.id);
            }
        }
        while let Ok(Some(message)) = self.link.next_message() {
            self.take(message);
        }
        let now = now_us();
        if self.beating && now.saturating_sub(self.beat_us) >= 3_000 {
            self.beat(now);
        }
    }

    fn beat(&mut self, now: u64) {
        let Some(me) = self.me else { return };
        self.seq += 1;
        self.beat_us = now;
        let beat = Beat { node: me.node, inc: me.inc, seq: self.seq, data_turns: self.seq, suspects: self.suspects };
        self.socket.send(&beat.seal(&self.key)).unwrap();
    }

    /// A datagram of anybody's to the orchestrator.
    pub fn throw(&self, datagram: &[u8]) {
        self.socket.send(datagram).unwrap();
    }

    fn take(&mut self, message: FromOrchestrator) {
        match message {
            FromOrchestrator::Join(JoinReply::Joined { me, .. }) => self.me = Some(me),
            FromOrchestrator::Join(JoinReply::Refused { cause }) => self.refused = Some(cause),
            FromOrchestrator::Outcome { attempt, outcome, .. } => {
                self.outcomes.insert(attempt, outcome);
            }
            FromOrchestrator::MoveOutcome { .. } | FromOrchestrator::MoveAsked { .. } => {}
            FromOrchestrator::Records { revision, nodes, groups, .. } => {
                self.revision = revision;
                self.nodes.extend(nodes.into_iter().map(|node| (node.member.node, node)));
                for group in groups {
                    self.learned_us.insert(group.group, now_us());
                    self.groups.insert(group.group, group);
                }
            }
        }
    }
}

/// Turns all nodes until `done`.
pub fn until(what: &str, nodes: &mut [&mut FakeNode], mut done: impl FnMut(&mut [&mut FakeNode]) -> bool) {
    let start = Instant::now();
    while !done(nodes) {
        assert!(start.elapsed() < PATIENCE, "waited too long: {what}");
        for node in nodes.iter_mut() {
            node.turn();
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Turns all nodes for some time.
pub fn for_a_while(nodes: &mut [&mut FakeNode], time: Duration) {
    let start = Instant::now();
    until("time", nodes, |_| start.elapsed() >= time);
}

/// Addresses of a socket that nobody reads.
pub fn nobody() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}
