//! What the orchestrator, the store and the edge do.

use super::control::{CLAIM_US, SILENCE_US};
use super::message::{EDGE, Message, ORCHESTRATOR};
use super::process::NODES;
use super::step::Step;
use escape_engine::Mutant;
use escape_engine::edge::{EdgeCommand, EdgeEvent, GroupSteering};
use escape_engine::orchestrator::{LinkId, OrchestratorCommand, OrchestratorEvent, Receiver, TxnFailure};
use escape_engine::store::{Changes, Conflict, Record, Txn};
use escape_proto::{Beat, FromOrchestrator, JoinReply, Member, NodeId, NodeState, ToOrchestrator};

impl Step<'_> {
    /// A message for the orchestrator.
    pub fn orchestrator_receives(&mut self, from: usize, message: Message) {
        match message {
            Message::Join(life, request) => {
                let link = LinkId((from as u64) << 8 | u64::from(life));
                let node = NodeId(from as u16);
                self.tell_orchestrator(OrchestratorEvent::Join { link, node, request });
            }
            Message::ToOrchestrator(from, request) => {
                self.tell_orchestrator(OrchestratorEvent::Request { from, request });
            }
            _ => {}
        }
    }

    /// Gives the orchestrator an event and carries out what it wants.
    pub fn tell_orchestrator(&mut self, event: OrchestratorEvent) {
        let control = self.world.control.edit();
        let mut out = Vec::new();
        control.machine.on(control.now, event, &mut out);
        for command in out {
            match command {
                OrchestratorCommand::Txn { id, mut txn } => {
                    // Placement of new flows is not part of this model: sessions are opened in a given group.
                    txn.put.retain(|r| !matches!(r, Record::Buckets(_)));
                    self.world.control.edit().txn = Some((id, txn));
                }
                OrchestratorCommand::Send { to, message } => self.orchestrator_sends(to, message),
                OrchestratorCommand::Note(note) => self.tell(|| format!("orchestrator: {note:?}")),
            }
        }
    }

    fn orchestrator_sends(&mut self, to: Receiver, message: FromOrchestrator) {
        let message = match message {
            FromOrchestrator::Records { nodes, groups, leases, moves, .. }
                if nodes.is_empty() && groups.is_empty() && leases.is_empty() && moves.is_empty() =>
            {
                return;
            }
            FromOrchestrator::Records { revision, nodes, groups, leases, moves, .. } => {
                let quarantine = Vec::new();
                FromOrchestrator::Records { revision, nodes, groups, leases, quarantine, moves, buckets: None }
            }
            other => other,
        };
        let control = &mut self.world.control;
        let receivers: Vec<usize> = match to {
            Receiver::Link(LinkId(link)) => {
                let (n, life) = ((link >> 8) as usize, link as u8);
                let there = control.links.get(n) == Some(&Some(life));
                if let (FromOrchestrator::Join(JoinReply::Joined { me, .. }), true) = (&message, there) {
                    control.edit().members[n] = Some(*me);
                }
                there.then_some(n).into_iter().collect()
            }
            Receiver::Node(m) => (0..NODES).filter(|n| control.members[*n] == Some(m)).collect(),
            Receiver::AllNodes => (0..NODES).filter(|n| control.members[*n].is_some()).collect(),
            Receiver::Edge => vec![EDGE],
        };
        for n in receivers {
            self.send(ORCHESTRATOR, n, Message::FromOrchestrator(message.clone()));
        }
    }

    /// The store carries out the transaction, and the orchestrator hears of it.
    pub fn write(&mut self) {
        let Some((id, txn)) = self.world.control.edit().txn.take() else { return };
        let result = self.apply_txn(&txn);
        let store = &self.world.control.store;
        let result = result.map_err(|_| TxnFailure::Conflict { now: Box::new(store.clone()) });
        self.tell_orchestrator(OrchestratorEvent::TxnDone { id, result });
    }

    /// The store carries out a transaction.
    pub fn apply_txn(&mut self, txn: &Txn) -> Result<Changes, Conflict> {
        let control = self.world.control.edit();
        let before = control.store.clone();
        let result = control.store.apply(txn);
        if let Ok(changes) = &result {
            if self.mutant == Some(Mutant::EpochReused) {
                control.before = Some(Box::new(before.clone()));
            }
            self.judge_store(&before, changes);
            for record in &changes.put {
                if let Record::Move(r) = record {
                    self.world.truth.edit().note_moved(r);
                }
            }
        }
        result
    }

    /// The others' heartbeats say that this node gives no sign of life, and so does the orchestrator's own clock.
    pub fn condemn(&mut self, n: usize) {
        let place = self.world.nodes[n].member();
        let control = self.world.control.edit();
        control.now += SILENCE_US;
        let (now, up) = (control.now, up_members(control.machine.store()));
        control.condemned[n] = up.iter().copied().find(|m| usize::from(m.node.0) == n);
        if control.condemned[n] == place {
            self.world.left.false_deaths -= 1;
        }
        for member in up.into_iter().filter(|m| usize::from(m.node.0) != n) {
            let beat = Beat { node: member.node, inc: member.inc, seq: now, data_turns: now, suspects: 1 << n };
            self.tell_orchestrator(OrchestratorEvent::Beat(beat));
        }
        self.tell_orchestrator(OrchestratorEvent::Tick);
    }

    /// Nobody brings a copy of an orphaned group in time: all nodes beat, and the time is over.
    pub fn lose_hope(&mut self) {
        let control = self.world.control.edit();
        control.now += CLAIM_US;
        let (now, up) = (control.now, up_members(control.machine.store()));
        for member in up {
            let beat = Beat { node: member.node, inc: member.inc, seq: now, data_turns: now, suspects: 0 };
            self.tell_orchestrator(OrchestratorEvent::Beat(beat));
        }
        self.tell_orchestrator(OrchestratorEvent::Tick);
    }

    /// A message for the edge.
    pub fn edge_receives(&mut self, message: Message) {
        match message {
            Message::ToEdge(from, request) => self.tell_edge(EdgeEvent::Request { from, request }),
            Message::FromOrchestrator(FromOrchestrator::Records { nodes, groups, .. }) => {
                self.tell_edge(EdgeEvent::Records { nodes, groups, buckets: None });
            }
            _ => {}
        }
    }

    fn tell_edge(&mut self, event: EdgeEvent) {
        let mut out = Vec::new();
        self.world.edge.edit().machine.on(0, event, &mut out);
        for command in out {
            self.tell(|| format!("edge: {command:?}"));
            match command {
                EdgeCommand::Steer { groups, .. } => self.steer(groups),
                EdgeCommand::Reply { to, reply } => {
                    let n = usize::from(to.node.0);
                    if self.world.nodes[n].member() == Some(to) {
                        self.send(EDGE, n, Message::FromEdge(reply));
                    }
                }
                // A flow follows its slice's group in this model.
                EdgeCommand::Bind { .. } | EdgeCommand::Unbind { .. } | EdgeCommand::Place { .. } => {}
            }
        }
    }

    /// The fabric does it at once.
    fn steer(&mut self, groups: Vec<GroupSteering>) {
        for steering in &groups {
            self.judge_steering(*steering);
            if let Some(place) = self.world.edge.edit().steering.get_mut(steering.group.0 as usize)
                && place.is_none_or(|s| s.epoch < steering.epoch)
            {
                *place = Some(*steering);
            }
        }
        self.tell_edge(EdgeEvent::Steered { groups });
    }

    /// Says something to the orchestrator.
    pub fn send_orchestrator(&mut self, n: usize, request: ToOrchestrator) {
        if let Some(me) = self.world.nodes[n].member()
            && self.world.control.members[n] == Some(me)
        {
            self.send(n, ORCHESTRATOR, Message::ToOrchestrator(me, request));
        }
    }
}

fn up_members(store: Option<&escape_engine::store::StoreState>) -> Vec<Member> {
    let up = store.into_iter().flat_map(|s| s.nodes()).filter(|n| n.state == NodeState::Up);
    up.map(|n| n.member).collect()
}
