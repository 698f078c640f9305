//! Messages of the links: peers, orchestrator, edge.

use crate::error::NodeError;
use crate::node::Node;
use crate::peers::{BULK, PeerChange};
use crate::slice_table::OwnedSlice;
use escape_engine::Mutant;
use escape_engine::node::Event;
use escape_link::PeerFrame;
use escape_proto::{
    EdgeReply, EdgeRequest, FlowEntry, FromOrchestrator, Hello, Incarnation, JoinReply, JoinRequest, Member, Milestone,
    NodeId, NodeState, PROTOCOL_VERSION, Role, ToOrchestrator,
};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Frames handled per wake-up of a link: others must have their turn.
const FRAMES_PER_TURN_MAX: usize = 512;
/// Longest stretch of bulk copies per turn, microseconds: others' commits must not wait for them.
const BULK_STEP_US: u64 = 200;
/// Flows told to the edge in one message.
const FLOWS_PER_MESSAGE: usize = 4096;

impl Node {
    /// A peer's link has news (or, with no event, may hold frames already).
    pub(crate) fn on_peer(&mut self, node: u16, channel: u8, event: Option<&mio::event::Event>) {
        if let Some(event) = event {
            self.peers.on_event(node, channel, event);
        }
        let mut frame = std::mem::take(&mut self.inbox);
        let mut more = true;
        let until = (channel == BULK).then(|| self.now() + BULK_STEP_US);
        for _ in 0..FRAMES_PER_TURN_MAX {
            if until.is_some_and(|until| self.now() >= until) {
                break;
            }
            let Some(from) = self.peers.next_frame(node, channel, &mut frame) else {
                more = false;
                break;
            };
            match PeerFrame::decode(&frame) {
                Ok(message) => self.on_peer_frame(from, &message),
                Err(error) => {
                    tracing::warn!(peer = %from, %error, "a frame that is no message");
                    self.peers.end(NodeId(node));
                }
            }
        }
        self.inbox = frame;
        if more {
            self.unfinished.peers.insert((node, channel));
        }
    }

    fn on_peer_frame(&mut self, from: Member, frame: &PeerFrame<'_>) {
        match *frame {
            PeerFrame::Checkpoint(head, wire) => {
                let body = self.next_body;
                self.next_body += 1;
                self.open_body = Some(body);
                let begun = self.now();
                self.engine_event_with(Event::Checkpoint { from, head, body }, Some((body, wire)));
                self.stages.applied(self.now().saturating_sub(begun));
                if self.open_body.take().is_some() {
                    // Neither applied nor dropped: it waits for a record.
                    self.bodies.insert(body, wire.to_vec());
                }
            }
            PeerFrame::Ack(ack) => {
                tracing::trace!(peer = %from, ?ack, "acknowledged");
                self.peers.acknowledged(from, ack.slice, ack.no);
                self.engine_event(Event::Acked { from, ack });
            }
            PeerFrame::Refusal(ref refusal) => {
                tracing::debug!(peer = %from, ?refusal, "refused");
                if !self.is_deaf(refusal.group) {
                    self.engine_event(Event::Refused { from, refusal: refusal.clone() });
                }
            }
            PeerFrame::Probe { group, epoch, nonce } => self.engine_event(Event::Probe { from, group, epoch, nonce }),
            PeerFrame::Quarantine { group, epoch, slice } => {
                self.engine_event(Event::PeerQuarantined { from, group, epoch, slice });
            }
            PeerFrame::ProbeReply { group, epoch, nonce, standing_by } => {
                let (epoch, standing_by) = self.hears(group, epoch, standing_by);
                self.engine_event(Event::ProbeReply { from, group, epoch, nonce, standing_by });
            }
        }
    }

    /// Tells engine and heartbeat about peers that came or went.
    pub(crate) fn on_peer_changes(&mut self) {
        for change in self.peers.take_changes() {
            match change {
                PeerChange::Up(member) => {
                    tracing::info!(peer = %member, "replication link up");
                    self.engine_event(Event::PeerUp(member));
                    // Frames may have come with the handshake.
                    self.on_peer(member.node.0, crate::peers::COMMITS, None);
                    self.on_peer(member.node.0, crate::peers::BULK, None);
                }
                PeerChange::Down(member) => {
                    tracing::info!(peer = %member, "replication link down");
                    self.heartbeat.hint(member);
                    self.engine_event(Event::PeerDown(member));
                }
            }
        }
    }

    /// The listener or one of its handshakes has news.
    pub(crate) fn on_listener(&mut self, event: &mio::event::Event) {
        let now = Instant::now();
        self.listener.on_event(self.poll.registry(), event, now);
        self.accept_links(now);
    }

    /// Takes links whose callers have shown who they are.
    pub(crate) fn accept_links(&mut self, now: Instant) {
        while let Some(link) = self.listener.next_link() {
            self.peers.accept(link, self.poll.registry(), now);
        }
    }

    /// Calls orchestrator and edge if they are not there.
    pub(crate) fn call_upstream(&mut self, now: Instant) -> Result<(), NodeError> {
        let hello = self.hello_upstream();
        self.orchestrator.call(self.poll.registry(), &self.identity, hello.clone(), now);
        if self.me.is_some() {
            self.edge.call(self.poll.registry(), &self.identity, hello, now);
        }
        Ok(())
    }

    fn hello_upstream(&self) -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            cluster: self.cluster,
            from: Role::Node(NodeId(self.config.id)),
            inc: self.me.map_or(Incarnation(0), |m| m.inc),
            expect: Incarnation(0),
            channel: 0,
        }
    }

    /// The orchestrator's link has news.
    pub(crate) fn on_orchestrator(&mut self, event: &mio::event::Event) -> Result<(), NodeError> {
        if self.orchestrator.on_event(event) && self.me.is_none() {
            self.orchestrator.send(&ToOrchestrator::Join(JoinRequest {
                host: self.config.host.clone(),
                digest: self.digest,
                addr: self.config.advertised().to_string(),
                leases: self.config.leases,
                seen: self.seen,
                cluster: (self.cluster != [0; 16]).then_some(self.cluster),
                memory: self.memory,
            }));
        }
        while let Some(message) = self.orchestrator.next::<FromOrchestrator>() {
            self.on_orchestrator_message(message)?;
        }
        Ok(())
    }

    fn on_orchestrator_message(&mut self, message: FromOrchestrator) -> Result<(), NodeError> {
        match message {
            FromOrchestrator::Join(JoinReply::Joined { me, cluster, leases, claimed, moves, placement_seed }) => {
                tracing::info!(member = %me, leases = leases.len(), "joined");
                self.me = Some(me);
                self.cluster = cluster;
                self.groups.set_seed(placement_seed);
                self.peers.joined(me, cluster);
                self.listener.set_hello(self.peers.hello(0, Incarnation(0)));
                self.heartbeat.pulse().inc.store(me.inc.0, Ordering::Relaxed);
                self.engine_event(Event::Joined { me, claimed, moves });
                self.take_leases(leases)?;
                self.start_guest()?;
            }
            FromOrchestrator::Join(JoinReply::Refused { cause }) => return Err(NodeError::JoinRefused(cause)),
            FromOrchestrator::Records { revision, mut nodes, mut groups, leases, quarantine, moves, buckets } => {
                self.seen = self.seen.max(revision);
                self.overhears(&mut nodes, &mut groups);
                let now = Instant::now();
                for node in &nodes {
                    if self.broken != Some(Mutant::OldEpoch) || node.state == NodeState::Up {
                        self.peers.on_record(node, now);
                    }
                    self.watch_peer(node);
                }
                if let Some(buckets) = &buckets {
                    self.groups.set_buckets(buckets.clone());
                }
                self.take_leases(leases)?;
                self.engine_event(Event::Records { nodes, groups, quarantine, moves, buckets });
                // At once: a capture in the rest of this turn would make an image newer than the engine remembers it.
                if std::mem::take(&mut self.life_is_over) {
                    self.end_life();
                }
                self.peers.call(self.poll.registry(), now);
            }
            FromOrchestrator::Outcome { attempt, group, outcome } => {
                let outcome = self.believes(group, outcome);
                self.engine_event(Event::Outcome { attempt, group, outcome });
            }
            FromOrchestrator::MoveOutcome { attempt, group, outcome } => {
                self.engine_event(Event::MoveOutcome { attempt, group, outcome });
            }
            FromOrchestrator::MoveAsked { request, what, to } => self.move_asked(request, what, to),
        }
        Ok(())
    }

    fn watch_peer(&self, record: &escape_proto::NodeRecord) {
        if record.node().0 == self.config.id {
            return;
        }
        if record.state == escape_proto::NodeState::Up {
            self.heartbeat.watch(record.member);
        } else {
            self.heartbeat.forget(record.node());
        }
    }

    /// Tells people of new suspicions; the orchestrator itself hears of them in the heartbeats.
    pub(crate) fn tell_suspicions(&mut self) {
        let pulse = self.heartbeat.pulse();
        let (suspects, at_us) = (pulse.suspects.load(Ordering::Relaxed), pulse.suspects_at_us.load(Ordering::Relaxed));
        let news = suspects & !self.suspects_told;
        self.suspects_told = suspects;
        if news == 0 {
            return;
        }
        let members: Vec<Member> = self.engine.node_records().map(|r| r.member).collect();
        for member in members.into_iter().filter(|m| news.checked_shr(u32::from(m.node.0)).unwrap_or(0) & 1 == 1) {
            self.orchestrator.send(&ToOrchestrator::Milestone { at_us, what: Milestone::Suspected(member) });
        }
    }

    /// The edge's link has news.
    pub(crate) fn on_edge(&mut self, event: &mio::event::Event) {
        if self.edge.on_event(event) {
            self.introduce_to_edge();
        }
        while let Some(reply) = self.edge.next::<EdgeReply>() {
            match reply {
                EdgeReply::Flipped { groups } => {
                    for (group, epoch) in groups {
                        self.engine_event(Event::Flipped { group, epoch });
                    }
                }
                EdgeReply::Stale { group, applied, owner } => {
                    tracing::info!(%group, %applied, %owner, "the edge knows a newer owner");
                }
            }
        }
    }

    /// A new edge, or one that has started anew: it rebuilds from what owners say.
    fn introduce_to_edge(&mut self) {
        let groups: Vec<_> = self.engine.gated_groups().collect();
        if !groups.is_empty() {
            self.edge.send(&EdgeRequest::GateClosed { groups });
        }
        let entry = |s: &OwnedSlice| FlowEntry { flow: self.groups.steered(&s.flow), group: s.group };
        self.new_flows = self.slices.iter().map(entry).collect();
    }

    /// Tells the edge which flows are real; now and then, in batches.
    pub(crate) fn confirm_flows(&mut self) {
        if self.edge.is_open() {
            let flows = std::mem::take(&mut self.new_flows);
            for batch in flows.chunks(FLOWS_PER_MESSAGE) {
                self.edge.send(&EdgeRequest::Flows(batch.to_vec()));
            }
        }
    }

    /// Asks the edge for this turn's flips, and tells it of flows that ended.
    pub(crate) fn send_flips(&mut self) {
        if !self.flips.is_empty() {
            // A moved slice's flow is bound by the first steering of its group.
            self.confirm_flows();
            let groups = std::mem::take(&mut self.flips);
            self.edge.send(&EdgeRequest::GateClosed { groups });
        }
        if !self.ended_flows.is_empty() {
            let flows = std::mem::take(&mut self.ended_flows);
            self.edge.send(&EdgeRequest::Closed(flows));
        }
    }

    /// Tells people of a step.
    pub(crate) fn milestone(&mut self, what: Milestone) {
        tracing::debug!(?what, "milestone");
        let at_us = self.now();
        self.orchestrator.send(&ToOrchestrator::Milestone { at_us, what });
    }
}
