//! The node's engine, rule by rule. Sequences of faults are the simulator's (`tests/sim`).
#![allow(clippy::unwrap_used)]

mod full_copies;
mod moves;
mod rules;

use super::{Command, Event, LeaseUse, NodeConfig, NodeEngine};
use escape_proto::{
    Ack, BodyKind, CasOutcome, ChainHash, CheckpointHead, CheckpointNo, Epoch, Flow, GroupId, GroupRecord, Incarnation,
    LeaseId, Member, NodeId, NodeRecord, NodeState, QuarantineRecord, Refusal, RefusalCause, SliceId, Suspect,
    records_mark,
};

const G: GroupId = GroupId(7);
const ME: Member = Member { node: NodeId(0), inc: Incarnation(3) };
const PEER: Member = Member { node: NodeId(1), inc: Incarnation(5) };
const SLICE: SliceId = SliceId { slot: 9, inc: 1 << 32 | 1 };
const FLOW: Flow = Flow { ip: [192, 0, 2, 7], port: 4_000, service_port: 80 };

/// An engine, its clock, and what it said last.
struct Rig {
    engine: NodeEngine,
    now: u64,
}

impl Rig {
    /// Joined; nodes 0 and 1 are up on two hosts; the guest runs.
    fn joined() -> Self {
        let mut rig = Self { engine: NodeEngine::new(NodeConfig::new(ME.node, "a")), now: 0 };
        rig.on(Event::GuestReady);
        rig.on(Event::Joined { me: ME, claimed: vec![], moves: vec![] });
        let nodes = vec![up(ME, "a"), up(PEER, "b")];
        rig.on(Event::Records { nodes, groups: vec![], quarantine: vec![], moves: vec![], buckets: None });
        rig
    }

    /// Owner of the group, active and steered to, with `PEER` as recorded standby at epoch 2.
    fn paired() -> Self {
        let mut rig = Self::joined();
        rig.record(GroupRecord::fresh(G, ME));
        rig.on(Event::GateClosed { group: G, epoch: Epoch(1) });
        rig.on(Event::Flipped { group: G, epoch: Epoch(1) });
        let out = rig.on(Event::PeerUp(PEER));
        let nonce = out.iter().find_map(|c| match c {
            Command::SendProbe { nonce, .. } => Some(*nonce),
            _ => None,
        });
        let nonce = nonce.expect("an empty group's candidate is asked whether it knows the epoch");
        let answer = Event::ProbeReply { from: PEER, group: G, epoch: Epoch(1), nonce, standing_by: false };
        let out = rig.on(answer);
        let Some(Command::Cas { attempt, to }) = out.last().cloned() else { panic!("no CAS in {out:?}") };
        assert_eq!(to, GroupRecord::fresh(G, ME).paired_with(PEER));
        rig.on(Event::Outcome { attempt, group: G, outcome: CasOutcome::Applied(to) });
        rig
    }

    fn on(&mut self, event: Event) -> Vec<Command> {
        self.now += 100;
        let mut out = Vec::new();
        self.engine.on(self.now, event, &mut out);
        out
    }

    fn record(&mut self, record: GroupRecord) -> Vec<Command> {
        self.on(Event::Records {
            nodes: vec![],
            groups: vec![record],
            quarantine: vec![],
            moves: vec![],
            buckets: None,
        })
    }

    fn capture(&mut self, kind: BodyKind, generation: u64) -> Vec<Command> {
        let chain = chain(generation);
        self.on(Event::Captured { group: G, slice: SLICE, kind, generation, rcv_covered: 0, flow: FLOW, chain })
    }

    fn ack(&mut self, from: Member, epoch: u64, no: u64, chain: ChainHash) -> Vec<Command> {
        let ack = Ack { group: G, epoch: Epoch(epoch), slice: SLICE, no: CheckpointNo(no), chain };
        self.on(Event::Acked { from, ack })
    }
}

fn up(member: Member, host: &str) -> NodeRecord {
    NodeRecord { member, state: NodeState::Up, host: host.to_owned(), digest: [0; 32], addr: String::new(), memory: 0 }
}

fn chain(n: u64) -> ChainHash {
    ChainHash::START.next(&n.to_le_bytes())
}

fn head(epoch: u64, no: u64, kind: BodyKind) -> CheckpointHead {
    CheckpointHead {
        group: G,
        epoch: Epoch(epoch),
        slice: SLICE,
        no: CheckpointNo(no),
        base: CheckpointNo(if matches!(kind, BodyKind::Delta | BodyKind::Close) { no - 1 } else { 0 }),
        kind,
        generation: no,
        rcv_covered: 0,
        flow: FLOW,
        chain: chain(no),
    }
}

fn released(out: &[Command]) -> Option<u64> {
    out.iter().find_map(|c| match c {
        Command::Release { slice: SLICE, generation } => Some(*generation),
        _ => None,
    })
}
