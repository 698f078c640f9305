//! What a node does at its engine's command.

use crate::network::Endpoint;
use crate::node_process::Local;
use crate::vmm::Gate;
use crate::world::{Happening, Message, World};
use escape_engine::node::{Command, PlugSlice};
use escape_proto::{
    Body, BodyKind, CheckpointHead, EdgeRequest, Epoch, GroupId, Member, PeerMessage, SliceId, ToOrchestrator,
};

impl World {
    /// Carries out one command.
    pub fn command(&mut self, n: usize, command: Command) {
        match command {
            Command::Send { to, head } | Command::SendFull { to, head } => self.send_checkpoint(n, to, head),
            Command::Apply { from, head, body } => self.queue_apply(n, from, head, body),
            Command::DropBody { body } => {
                if let Some(p) = self.nodes[n].process.as_mut() {
                    p.vmm.bodies.remove(&body);
                }
            }
            Command::SendAck { to, ack } => self.send_peer(n, to, PeerMessage::Ack(ack)),
            Command::SendRefusal { to, refusal } => self.send_peer(n, to, PeerMessage::Refusal(refusal)),
            Command::SendProbe { to, group, epoch, nonce } => {
                self.send_peer(n, to, PeerMessage::Probe { group, epoch, nonce });
            }
            Command::SendProbeReply { to, group, epoch, nonce, standing_by } => {
                self.send_peer(n, to, PeerMessage::ProbeReply { group, epoch, nonce, standing_by });
            }
            Command::Release { slice, generation } => self.release(n, slice, generation),
            Command::Closed { group: _, slice } => self.closed(n, slice),
            Command::Entomb { slice } => self.entomb(n, slice),
            Command::FreeImage { slice } => {
                if let Some(p) = self.nodes[n].process.as_mut() {
                    p.vmm.standby.remove(&slice);
                    // An own image of a former life.
                    p.vmm.own.remove(&slice);
                }
            }
            Command::Cas { attempt, to } => self.send_orchestrator(n, ToOrchestrator::Cas { attempt, to }),
            Command::Read { attempt, group } => self.send_orchestrator(n, ToOrchestrator::Read { attempt, group }),
            Command::ReportGuestDown { crash, referenced, suspects } => {
                let cause = "crash".to_owned();
                self.send_orchestrator(n, ToOrchestrator::GuestDown { cause, crash, referenced, suspects });
            }
            Command::ReportQuarantine { suspect, cause } => {
                self.send_orchestrator(n, ToOrchestrator::Quarantine { suspect, cause });
            }
            Command::SendQuarantine { to, group, epoch, slice } => {
                self.send_peer(n, to, PeerMessage::Quarantine { group, epoch, slice });
            }
            Command::GiveUp { slice, .. } => {
                if let Some(p) = self.nodes[n].process.as_mut() {
                    p.vmm.forget(slice);
                    p.vmm.standby.remove(&slice);
                }
            }
            Command::Activate { group, epoch, slices } => self.activate(n, group, epoch, &slices),
            Command::RequestFlip { group, epoch } => {
                self.send_edge(n, EdgeRequest::GateClosed { groups: vec![(group, epoch)] });
            }
            Command::Plug { group, slices } => self.start_plug(n, group, &slices),
            Command::OpenGate { group, slice } => self.open_gate(n, group, slice),
            Command::OpenGroup { group } => self.open_group(n, group),
            Command::DropGroup { group, slices } => self.drop_group(n, group, &slices),
            Command::Rejoin if self.rng.one_in(4) => {
                // A process that starts over instead, with nothing.
                self.crash_node(n);
                self.after(2_000, Happening::Start { process: Endpoint::Node(n) });
            }
            Command::Rejoin => self.step_out(n),
            Command::Diverged { slice, detail } => {
                self.oracle.violate("I3", format!("slice {slice} diverged: {detail}"));
            }
            Command::Freeze { group, slice } => self.freeze(n, group, slice),
            Command::Thaw { slice } => self.thaw(n, slice),
            Command::RequestMove { attempt, group, epoch, slices } => {
                self.send_orchestrator(n, ToOrchestrator::Move { attempt, group, epoch, slices });
            }
            Command::HandOver { slice, to } => self.hand_over(n, slice, to),
            Command::Regroup { slice, to } => self.regroup(n, slice, to),
            Command::ReportMoved { to } => self.send_orchestrator(n, ToOrchestrator::Moved { to }),
            Command::CaptureSoon { .. } | Command::Protected { .. } | Command::AnswerMove { .. } => {}
        }
    }

    fn send_checkpoint(&mut self, n: usize, to: Member, head: CheckpointHead) {
        let Some(p) = self.nodes[n].process.as_ref() else { return };
        let Some(own) = p.vmm.own.get(&head.slice) else {
            if head.kind == BodyKind::Close {
                // The image is a tombstone by now; the receiver has the closed state and looks at the head only.
                return self.send_peer(n, to, PeerMessage::Checkpoint(head, Body(Vec::new())));
            }
            return self.oracle.violate("engine", format!("node {n} is to send slice {} that it has not", head.slice));
        };
        if own.no != head.no || own.chain != head.chain || own.group != head.group {
            let (no, at) = (head.no, own.no);
            return self.oracle.violate("engine", format!("node {n} slice {}: head {no}, image {at}", head.slice));
        }
        let body = if head.kind == BodyKind::Full { own.state.encode() } else { own.body.clone() };
        self.bulk_turn = head.kind == BodyKind::Full && self.bulk_channel;
        self.send_peer(n, to, PeerMessage::Checkpoint(head, Body(body)));
        self.bulk_turn = false;
    }

    fn send_peer(&mut self, n: usize, to: Member, message: PeerMessage) {
        let Some(p) = self.nodes[n].process.as_ref() else { return };
        let by_node = self.plan.broken == Some(escape_engine::Mutant::StandbyAmnesia);
        let link = p.peers.iter().find(|(_, m)| **m == to || (by_node && m.node == to.node)).map(|(l, _)| *l);
        if let Some(link) = link {
            self.send(link, Endpoint::Node(n), Message::Peer(message));
        }
    }

    /// Says something to the orchestrator, if it can be reached.
    pub fn send_orchestrator(&mut self, n: usize, message: ToOrchestrator) {
        if let Some(link) = self.link_of(Endpoint::Node(n), Endpoint::Orchestrator) {
            self.send(link, Endpoint::Node(n), Message::ToOrchestrator(message));
        }
    }

    /// Says something to the edge, if it can be reached.
    pub fn send_edge(&mut self, n: usize, message: EdgeRequest) {
        if let Some(link) = self.link_of(Endpoint::Node(n), Endpoint::Edge) {
            self.send(link, Endpoint::Node(n), Message::ToEdge(message));
        }
    }

    fn queue_apply(&mut self, n: usize, from: Member, head: CheckpointHead, body: u64) {
        let delay = if self.rng.one_in(10) { self.rng.range(100, 1_500) } else { self.rng.range(0, 60) };
        let now = self.now;
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        p.applies.push_back((from, head, body));
        p.applies_at = p.applies_at.max(now + delay);
        let (at, life) = (p.applies_at, p.life);
        self.at(at, Happening::Local { node: n, life, what: Local::Apply });
    }

    fn activate(&mut self, n: usize, group: GroupId, epoch: Epoch, slices: &[PlugSlice]) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        for plug in slices {
            if let Some(image) = p.vmm.standby.remove(&plug.slice) {
                p.vmm.own.insert(plug.slice, image);
            }
            if p.vmm.own.get(&plug.slice).is_none_or(|i| i.no != plug.no || i.group != group) {
                let detail = format!("node {n} activates slice {} of group {group} without its image", plug.slice);
                self.oracle.violate("R8", detail);
                return;
            }
        }
        let queue = p.vmm.gates.remove(&group).map(|(_, g)| g.queue).unwrap_or_default();
        p.vmm.gates.insert(group, (epoch, Gate { queue, ..Gate::default() }));
        let life = p.life;
        self.judge_activation(n, group, slices);
        let delay = self.rng.range(10, 400);
        self.after(delay, Happening::Local { node: n, life, what: Local::GateClosed(group, epoch) });
    }

    fn start_plug(&mut self, n: usize, group: GroupId, slices: &[PlugSlice]) {
        let Some(p) = self.nodes[n].process.as_ref() else { return };
        let (life, Some(guest)) = (p.life, p.vmm.guest_life) else { return };
        let mut delay = 0;
        for plug in slices {
            delay += self.rng.range(20, 300);
            self.after(delay, Happening::Local { node: n, life, what: Local::Plugged(group, plug.slice, guest) });
        }
    }

    fn drop_group(&mut self, n: usize, group: GroupId, slices: &[SliceId]) {
        let Some(p) = self.nodes[n].process.as_mut() else { return };
        for slice in slices {
            p.vmm.forget(*slice);
        }
        if !p.engine.owns(group) {
            p.vmm.gates.remove(&group);
            // The engine has not heard of slices that were never captured.
            let unborn = p.vmm.guest.iter().filter(|(_, r)| r.group == group).map(|(s, _)| *s);
            for slice in unborn.collect::<Vec<_>>() {
                p.vmm.forget(slice);
            }
        }
    }
}
