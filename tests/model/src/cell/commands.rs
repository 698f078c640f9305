//! What a node is told, and what it does at its engine's command.

use super::message::{EDGE, Message};
use super::process::Local;
use super::step::Step;
use super::vmm::{Gate, Image, Vmm};
use crate::promises::{ENGINE, I3, JOIN};
use escape_engine::Mutant;
use escape_engine::node::{Command, Event, PlugSlice};
use escape_proto::{
    BodyKind, CheckpointHead, EdgeReply, EdgeRequest, Epoch, FromOrchestrator, GroupId, JoinReply, Member, PeerMessage,
    SliceId, ToOrchestrator,
};

impl Step<'_> {
    /// Gives a node's engine an event and carries out what it wants.
    pub fn feed(&mut self, n: usize, event: Event) {
        let place = self.world.nodes[n].edit();
        let Some(p) = place.process.as_mut() else { return };
        let life = p.life;
        let mut out = Vec::new();
        let before = p.engine.me();
        p.engine.on(place.clock, event, &mut out);
        if let Some(over) = before.filter(|_| p.engine.me().is_none()) {
            p.former = Some(over);
            self.bury(n);
        }
        for command in out {
            if self.world.nodes[n].process.as_ref().is_none_or(|p| p.life != life) {
                return;
            }
            self.tell(|| format!("node {n}: {command:?}"));
            self.command(n, command);
        }
    }

    /// A message for a node.
    pub fn node_receives(&mut self, n: usize, from: usize, message: Message) {
        match message {
            Message::Up(member) => {
                if let Some(p) = self.world.nodes[n].edit().process.as_mut() {
                    p.peers[from] = Some(member);
                }
                self.feed(n, Event::PeerUp(member));
            }
            Message::Down => {
                let peer = self.world.nodes[n].edit().process.as_mut().and_then(|p| p.peers[from].take());
                if let Some(member) = peer {
                    self.feed(n, Event::PeerDown(member));
                }
            }
            Message::FromOrchestrator(message) => self.orchestrator_says(n, message),
            Message::FromEdge(EdgeReply::Flipped { groups }) => {
                for (group, epoch) in groups {
                    self.feed(n, Event::Flipped { group, epoch });
                }
            }
            Message::FromEdge(EdgeReply::Stale { .. }) => {}
            other => self.peer_says(n, from, other),
        }
    }

    fn orchestrator_says(&mut self, n: usize, message: FromOrchestrator) {
        let place = self.world.nodes[n].edit();
        let Some(p) = place.process.as_mut() else { return };
        match message {
            FromOrchestrator::Join(JoinReply::Joined { me, leases, claimed, moves, .. }) => {
                p.leases = leases;
                p.joined = Some(me);
                p.former = None;
                self.feed(n, Event::Joined { me, claimed, moves });
            }
            FromOrchestrator::Join(JoinReply::Refused { cause }) => {
                self.world.violate(JOIN, || format!("node {n} is refused: {cause}"));
            }
            FromOrchestrator::Records { revision, nodes, groups, leases, moves, .. } => {
                p.take_leases(leases);
                place.seen = place.seen.max(revision);
                self.feed(n, Event::Records { nodes, groups, quarantine: Vec::new(), moves, buckets: None });
            }
            FromOrchestrator::Outcome { attempt, group, outcome } => {
                self.feed(n, Event::Outcome { attempt, group, outcome });
            }
            FromOrchestrator::MoveOutcome { attempt, group, outcome } => {
                self.feed(n, Event::MoveOutcome { attempt, group, outcome });
            }
            FromOrchestrator::MoveAsked { .. } => {}
        }
    }

    fn peer_says(&mut self, n: usize, link: usize, message: Message) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        let Some(from) = p.peers.get(link).copied().flatten() else { return };
        let event = match message {
            Message::Checkpoint(head, state) => Event::Checkpoint { from, head, body: p.keep_body(head, state) },
            Message::Ack(ack) => Event::Acked { from, ack },
            Message::Refusal(refusal) => Event::Refused { from, refusal },
            Message::Probe(PeerMessage::Probe { group, epoch, nonce }) => Event::Probe { from, group, epoch, nonce },
            Message::Probe(PeerMessage::ProbeReply { group, epoch, nonce, standing_by }) => {
                Event::ProbeReply { from, group, epoch, nonce, standing_by }
            }
            _ => return,
        };
        self.feed(n, event);
    }

    fn command(&mut self, n: usize, command: Command) {
        match command {
            Command::Send { to, head } | Command::SendFull { to, head } => self.send_checkpoint(n, to, head),
            Command::Apply { from, head, body } => {
                let body = self.world.nodes[n].edit().process.as_mut().and_then(|p| p.bodies.remove(&body));
                if let Some((_, state)) = body {
                    self.begin(n, Local::Apply(from, head, state));
                }
            }
            Command::DropBody { body } => {
                if let Some(p) = self.world.nodes[n].edit().process.as_mut() {
                    p.bodies.remove(&body);
                }
            }
            Command::SendAck { to, ack } => self.send_peer(n, to, Message::Ack(ack)),
            Command::SendRefusal { to, refusal } => self.send_peer(n, to, Message::Refusal(refusal)),
            Command::SendProbe { to, group, epoch, nonce } => {
                self.send_peer(n, to, Message::Probe(PeerMessage::Probe { group, epoch, nonce }));
            }
            Command::SendProbeReply { to, group, epoch, nonce, standing_by } => {
                let reply = PeerMessage::ProbeReply { group, epoch, nonce, standing_by };
                self.send_peer(n, to, Message::Probe(reply));
            }
            Command::Release { slice, generation } => self.release(n, slice, generation),
            Command::Closed { group: _, slice } => self.closed(n, slice),
            Command::Entomb { slice } => {
                if let Some(p) = self.world.nodes[n].edit().process.as_mut()
                    && p.vmm.standby.remove(&slice).is_some()
                {
                    p.vmm.tombs.insert(slice);
                }
            }
            Command::FreeImage { slice } => {
                if let Some(p) = self.world.nodes[n].edit().process.as_mut() {
                    p.vmm.standby.remove(&slice);
                    // An own image of a former life.
                    p.vmm.own.remove(&slice);
                }
            }
            Command::Cas { attempt, to } => self.send_orchestrator(n, ToOrchestrator::Cas { attempt, to }),
            Command::Read { attempt, group } => self.send_orchestrator(n, ToOrchestrator::Read { attempt, group }),
            Command::ReportGuestDown { crash, referenced, suspects } => {
                let cause = String::new();
                self.send_orchestrator(n, ToOrchestrator::GuestDown { cause, crash, referenced, suspects });
            }
            Command::Activate { group, epoch, slices } => self.activate(n, group, epoch, &slices),
            Command::RequestFlip { group, epoch } => {
                if let Some(me) = self.world.nodes[n].member() {
                    let request = EdgeRequest::GateClosed { groups: vec![(group, epoch)] };
                    self.send(n, EDGE, Message::ToEdge(me, request));
                }
            }
            Command::Plug { group, slices } => self.plug(n, group, &slices),
            Command::OpenGate { group, slice } => self.open_gate(n, group, slice),
            Command::OpenGroup { group } => {
                if let Some(p) = self.world.nodes[n].edit().process.as_mut() {
                    p.vmm.gates.entry(group).or_default().all_open = true;
                }
                self.judge_opening(n, group);
            }
            Command::DropGroup { group, slices } => self.drop_group(n, group, &slices),
            Command::Rejoin if self.bounds.starts_over => {
                self.crash_node(n, true);
                self.start_node(n);
            }
            Command::Rejoin => self.step_out(n),
            Command::Diverged { slice, detail } => {
                self.world.violate(I3, || format!("slice {slice}: {detail}"));
            }
            Command::Freeze { group, slice } => self.freeze(n, group, slice),
            Command::Thaw { slice } => self.thaw(n, slice),
            Command::RequestMove { attempt, group, epoch, slices } => {
                self.send_orchestrator(n, ToOrchestrator::Move { attempt, group, epoch, slices });
            }
            Command::HandOver { slice, to } => self.hand_over(n, slice, to),
            Command::Regroup { slice, to } => {
                if let Some(p) = self.world.nodes[n].edit().process.as_mut() {
                    let Vmm { own, standby, .. } = &mut p.vmm;
                    own.get_mut(&slice).into_iter().chain(standby.get_mut(&slice)).for_each(|image| image.group = to);
                }
            }
            Command::ReportMoved { to } => self.send_orchestrator(n, ToOrchestrator::Moved { to }),
            // No slice is quarantined in this model.
            Command::ReportQuarantine { .. } | Command::SendQuarantine { .. } | Command::GiveUp { .. } => {}
            Command::CaptureSoon { .. } | Command::Protected { .. } | Command::AnswerMove { .. } => {}
        }
    }

    fn send_checkpoint(&mut self, n: usize, to: Member, head: CheckpointHead) {
        let Some(p) = &self.world.nodes[n].process else { return };
        let state = match p.vmm.own.get(&head.slice).copied() {
            Some(own) if own.no == head.no && own.chain == head.chain && own.group == head.group => own.state,
            // The image is a tombstone by now; the receiver has the closed state and looks at the head only.
            None if head.kind == BodyKind::Close => super::session::Session { count: 0, digest: 0, closed: true },
            own => {
                return self.world.violate(ENGINE, || format!("node {n} is to send {head:?}, its image is {own:?}"));
            }
        };
        self.send_peer(n, to, Message::Checkpoint(head, state));
    }

    fn send_peer(&mut self, n: usize, to: Member, message: Message) {
        let Some(p) = &self.world.nodes[n].process else { return };
        let by_node = self.mutant == Some(Mutant::StandbyAmnesia);
        let fits = |m: &Option<Member>| *m == Some(to) || (by_node && m.is_some_and(|m| m.node == to.node));
        if let Some(link) = p.peers.iter().position(fits)
            && self.world.is_linked(n, link)
        {
            self.send(n, link, message);
        }
    }

    /// What a node has begun is done.
    pub fn finish(&mut self, n: usize, local: Local) {
        let reuse = self.mutant == Some(Mutant::ReuseSlot);
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        match local {
            Local::Apply(from, head, state) => {
                let result = p.vmm.apply(&head, state, reuse);
                self.feed(n, Event::Applied { from, head, result });
            }
            Local::GateClosed(group, epoch) => self.feed(n, Event::GateClosed { group, epoch }),
            Local::Plugged(group, slice, guest) => {
                let image = p.vmm.own.get(&slice).copied();
                if let Some(image) = image.filter(|_| p.guest_up && p.guest_life == guest && p.engine.owns(group)) {
                    p.vmm.guest.insert(slice, super::vmm::Running { group, state: image.state, frozen: false });
                    self.feed(n, Event::Plugged { group, slice, ok: true });
                }
            }
        }
    }

    fn activate(&mut self, n: usize, group: GroupId, epoch: Epoch, slices: &[PlugSlice]) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        for plug in slices {
            if let Some(image) = p.vmm.standby.remove(&plug.slice) {
                p.vmm.own.insert(plug.slice, image);
            }
            if p.vmm.own.get(&plug.slice).is_none_or(|i| i.no != plug.no || i.group != group) {
                let slice = plug.slice;
                return self.world.violate(ENGINE, || format!("node {n} activates slice {slice} without its image"));
            }
        }
        p.vmm.gates.insert(group, Gate::default());
        self.judge_activation(n, group, slices);
        self.begin(n, Local::GateClosed(group, epoch));
    }

    fn plug(&mut self, n: usize, group: GroupId, slices: &[PlugSlice]) {
        let Some(p) = &self.world.nodes[n].process else { return };
        let (guest, up) = (p.guest_life, p.guest_up);
        for plug in slices.iter().filter(|_| up) {
            self.begin(n, Local::Plugged(group, plug.slice, guest));
        }
    }

    /// Captures are at once in this model, so the image is what the slice is.
    fn freeze(&mut self, n: usize, group: GroupId, slice: SliceId) {
        if let Some(p) = self.world.nodes[n].edit().process.as_mut()
            && let Some(running) = p.vmm.guest.get_mut(&slice)
        {
            running.frozen = true;
            self.feed(n, Event::Frozen { group, slice });
        }
    }

    fn thaw(&mut self, n: usize, slice: SliceId) {
        if let Some(p) = self.world.nodes[n].edit().process.as_mut()
            && let Some(running) = p.vmm.guest.get_mut(&slice)
        {
            running.frozen = false;
        }
    }

    fn hand_over(&mut self, n: usize, slice: SliceId, to: GroupId) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        let image = p.vmm.own.get(&slice).copied();
        p.vmm.forget(slice);
        match image {
            Some(image) => {
                p.vmm.standby.insert(slice, Image { group: to, ..image });
            }
            None => self.world.violate(ENGINE, || format!("node {n} hands over slice {slice} that it has not")),
        }
    }

    fn drop_group(&mut self, n: usize, group: GroupId, slices: &[SliceId]) {
        let Some(p) = self.world.nodes[n].edit().process.as_mut() else { return };
        for slice in slices {
            p.vmm.forget(*slice);
        }
        if !p.engine.owns(group) {
            p.vmm.gates.remove(&group);
        }
    }
}
