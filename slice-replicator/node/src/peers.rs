//! Replication links to the other nodes: one connection for commits and one for bulk copies per pair.
//!
//! The node with the lower id calls. A pair is up when both channels are open; it is down when either ends.

use crate::tokens;
use crate::traffic::Traffic;
use escape_link::{Identity, Link, LinkError, LinkLimits, PeerFrame};
use escape_proto::{
    CheckpointHead, CheckpointNo, Hello, Incarnation, Member, NodeId, NodeRecord, NodeState, PROTOCOL_VERSION, Role,
    SliceId,
};
use mio::Registry;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// After a failed call, the next one.
const CALL_AGAIN: Duration = Duration::from_millis(50);
/// Commits.
pub const COMMITS: u8 = 0;
/// Bulk copies.
pub const BULK: u8 = 1;

/// The pair of connections with one life of a peer.
#[derive(Debug)]
struct PeerLinks {
    member: Member,
    addr: Option<SocketAddr>,
    channels: [Option<Link>; 2],
    call_at: Instant,
    up: bool,
    /// Slices whose latest frames went over the bulk channel: later ones follow them there, lest they overtake.
    /// Bounded by the arena's slots.
    on_bulk: HashMap<u32, (SliceId, CheckpointNo)>,
}

/// A change that the engine must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// Both channels are open.
    Up(Member),
    /// A channel ended.
    Down(Member),
}

/// All peers of this node.
pub struct Peers {
    me: NodeId,
    inc: Incarnation,
    cluster: [u8; 16],
    identity: Identity,
    peers: BTreeMap<NodeId, PeerLinks>,
    changes: Vec<PeerChange>,
    /// Traffic of commit links that have ended.
    ended: Traffic,
}

impl Peers {
    /// No peers yet.
    pub fn new(me: NodeId, identity: Identity) -> Self {
        Self {
            me,
            inc: Incarnation(0),
            cluster: [0; 16],
            identity,
            peers: BTreeMap::new(),
            changes: Vec::new(),
            ended: Traffic::default(),
        }
    }

    /// This node has joined.
    pub const fn joined(&mut self, me: Member, cluster: [u8; 16]) {
        self.inc = me.inc;
        self.cluster = cluster;
    }

    /// What this node says of itself to a listener's callers.
    pub const fn hello(&self, channel: u8, expect: Incarnation) -> Hello {
        let (version, from) = (PROTOCOL_VERSION, Role::Node(self.me));
        Hello { version, cluster: self.cluster, from, inc: self.inc, expect, channel }
    }

    /// This life is over: no link of it goes on, and nobody is called until the next one has begun.
    pub fn leave(&mut self) {
        self.inc = Incarnation(0);
        while let Some(node) = self.peers.keys().next().copied() {
            self.drop_peer(node);
        }
    }

    /// A node's record changed.
    pub fn on_record(&mut self, record: &NodeRecord, now: Instant) {
        if record.node() == self.me {
            return;
        }
        let known = self.peers.get(&record.node()).map(|p| p.member);
        if record.state == NodeState::Dead {
            if known == Some(record.member) {
                self.drop_peer(record.node());
            }
        } else if known.is_none_or(|m| m.inc < record.member.inc) {
            self.drop_peer(record.node());
            let entry = self.entry(record.member, now);
            entry.addr = record.addr.parse().ok();
        } else if let Some(entry) = self.peers.get_mut(&record.node()) {
            entry.addr = record.addr.parse().ok();
        }
    }

    fn entry(&mut self, member: Member, now: Instant) -> &mut PeerLinks {
        self.peers.entry(member.node).or_insert_with(|| PeerLinks {
            member,
            addr: None,
            channels: [None, None],
            call_at: now,
            up: false,
            on_bulk: HashMap::new(),
        })
    }

    fn drop_peer(&mut self, node: NodeId) {
        self.end(node);
        self.peers.remove(&node);
    }

    /// A caller's link, authenticated. Its life must be the one that the records name, or a newer one.
    pub fn accept(&mut self, mut link: Link, registry: &Registry, now: Instant) {
        let Some((member, channel)) = link.peer().and_then(|p| Some((p.member()?, p.channel))) else { return };
        if self.inc.0 == 0 || member.node >= self.me {
            return; // The caller is the node with the lower id; anything else tries again the right way round.
        }
        match self.peers.get(&member.node).map(|p| p.member) {
            Some(known) if known.inc > member.inc => return,
            Some(known) if known.inc < member.inc => self.drop_peer(member.node),
            _ => {}
        }
        if self.entry(member, now).channels[usize::from(channel & 1)].is_some() {
            self.end(member.node); // A new pair replaces a broken one that this end has not noticed.
        }
        if link.register(registry, tokens::peer(member.node.0, channel)).is_ok() {
            self.entry(member, now).channels[usize::from(channel & 1)] = Some(link);
            self.note_up(member.node);
        }
    }

    /// Calls peers that are due.
    pub fn call(&mut self, registry: &Registry, now: Instant) {
        if self.inc.0 == 0 {
            return;
        }
        let me = self.me;
        let due: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(n, p)| me < **n && p.channels.iter().any(Option::is_none) && now >= p.call_at)
            .map(|(n, _)| *n)
            .collect();
        for node in due {
            self.call_one(node, registry, now);
        }
    }

    fn call_one(&mut self, node: NodeId, registry: &Registry, now: Instant) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.call_at = now + CALL_AGAIN;
        let (Some(addr), expect) = (peer.addr, peer.member.inc) else { return };
        for channel in [COMMITS, BULK] {
            let hello = Hello {
                version: PROTOCOL_VERSION,
                cluster: self.cluster,
                from: Role::Node(self.me),
                inc: self.inc,
                expect,
                channel,
            };
            let place = &mut peer.channels[usize::from(channel)];
            if place.is_some() {
                continue;
            }
            match Link::connect(addr, &self.identity, Role::Node(node), hello, LinkLimits::default(), now) {
                Ok(mut link) => {
                    if link.register(registry, tokens::peer(node.0, channel)).is_ok() {
                        *place = Some(link);
                    }
                }
                Err(error) => tracing::debug!(%error, "call to a peer"),
            }
        }
    }

    /// The poll has news of a channel.
    pub fn on_event(&mut self, node: u16, channel: u8, event: &mio::event::Event) {
        let Some(link) = self.link_mut(NodeId(node), channel) else { return };
        match link.on_event(event) {
            Ok(()) => self.note_up(NodeId(node)),
            Err(error) => {
                tracing::info!(%error, "replication link ended");
                self.end(NodeId(node));
            }
        }
    }

    /// Copies the next frame of a channel into `into`; the sender's life. `None`: there is no more for now.
    pub fn next_frame(&mut self, node: u16, channel: u8, into: &mut Vec<u8>) -> Option<Member> {
        let peer = self.peers.get_mut(&NodeId(node)).filter(|p| p.up)?;
        let member = peer.member;
        match peer.channels.get_mut(usize::from(channel))?.as_mut()?.recv() {
            Ok(frame) => {
                let frame = frame?;
                into.clear();
                into.extend_from_slice(frame);
                Some(member)
            }
            Err(error) => {
                tracing::info!(%error, "replication link ended");
                self.end(NodeId(node));
                None
            }
        }
    }

    fn link_mut(&mut self, node: NodeId, channel: u8) -> Option<&mut Link> {
        self.peers.get_mut(&node)?.channels.get_mut(usize::from(channel))?.as_mut()
    }

    fn note_up(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node)
            && !peer.up
            && peer.channels.iter().all(|c| c.as_ref().is_some_and(Link::is_open))
        {
            peer.up = true;
            self.changes.push(PeerChange::Up(peer.member));
        }
    }

    /// Ends both channels of a peer; its owner calls again.
    pub fn end(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if let Some(commits) = peer.channels.first().and_then(Option::as_ref) {
            self.ended = self.ended.and(&commits.counters());
        }
        peer.channels = [None, None];
        peer.on_bulk.clear();
        if std::mem::take(&mut peer.up) {
            self.changes.push(PeerChange::Down(peer.member));
        }
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Vec<PeerChange> {
        std::mem::take(&mut self.changes)
    }

    /// Sends a checkpoint. A full copy goes over the bulk channel; deltas follow it there until it is acknowledged.
    pub fn send_checkpoint(&mut self, to: Member, head: CheckpointHead, body: &[u8], full: bool) {
        let Some(peer) = self.peers.get_mut(&to.node).filter(|p| p.member == to && p.up) else { return };
        let slot = head.slice.slot;
        let follows = peer.on_bulk.get(&slot).is_some_and(|(slice, _)| *slice == head.slice);
        let channel = if full || follows {
            peer.on_bulk.insert(slot, (head.slice, head.no));
            BULK
        } else {
            COMMITS
        };
        self.stage(to, channel, &PeerFrame::Checkpoint(head, body));
    }

    /// Bytes of messages staged for a life of a peer so far, on both channels, before encryption.
    pub fn bytes_to(&self, to: Member) -> u64 {
        let peer = self.peers.get(&to.node).filter(|p| p.member == to);
        peer.into_iter().flat_map(|p| p.channels.iter().flatten()).map(|link| link.counters().bytes_out).sum()
    }

    /// The peer has acknowledged this checkpoint: nothing of the slice is under way on the bulk channel any more.
    pub fn acknowledged(&mut self, from: Member, slice: SliceId, no: CheckpointNo) {
        if let Some(peer) = self.peers.get_mut(&from.node)
            && peer.on_bulk.get(&slice.slot).is_some_and(|(s, last)| *s == slice && *last <= no)
        {
            peer.on_bulk.remove(&slice.slot);
        }
    }

    /// Sends anything else, over the commit channel.
    pub fn send(&mut self, to: Member, frame: &PeerFrame<'_>) {
        self.stage(to, COMMITS, frame);
    }

    fn stage(&mut self, to: Member, channel: u8, frame: &PeerFrame<'_>) {
        let Some(peer) = self.peers.get_mut(&to.node).filter(|p| p.member == to && p.up) else { return };
        let Some(link) = peer.channels.get_mut(usize::from(channel)).and_then(Option::as_mut) else { return };
        if let Err(error) = link.send(frame) {
            // A peer that takes nothing for 8 MiB is as good as gone: start anew with full copies.
            tracing::warn!(%error, "replication link");
            self.end(to.node);
        }
    }

    /// Puts everything staged on the wire; once per turn of the loop.
    pub fn flush(&mut self) {
        let mut failed: Vec<(NodeId, LinkError)> = Vec::new();
        for (node, peer) in &mut self.peers {
            for link in peer.channels.iter_mut().flatten() {
                if let Err(error) = link.flush() {
                    failed.push((*node, error));
                }
            }
        }
        for (node, error) in failed {
            tracing::info!(%error, "replication link ended");
            self.end(node);
        }
    }

    /// What went over commit links since the start.
    pub fn traffic(&self) -> Traffic {
        let open = self.peers.values().filter_map(|p| p.channels.first()?.as_ref());
        open.fold(self.ended, |sum, link| sum.and(&link.counters()))
    }

    /// Ends handshakes that take too long.
    pub fn check_time(&mut self, now: Instant) {
        let late: Vec<NodeId> = self
            .peers
            .iter_mut()
            .map(|(n, p)| (*n, p))
            .filter_map(|(n, p)| p.channels.iter_mut().flatten().any(|l| l.check_time(now).is_err()).then_some(n))
            .collect();
        for node in late {
            self.end(node);
        }
    }
}
