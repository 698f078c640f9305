//! The orchestrator's process against nodes that speak to it over real links.
#![allow(clippy::unwrap_used)]

mod support;

use escape_link::ClusterAuthority;
use escape_orchestrator::{DetectionTiming, ProcessError, now_us};
use escape_proto::{
    Beat, CasOutcome, Epoch, GroupId, Incarnation, Milestone, Mode, NodeId, NodeState, Role, ToOrchestrator,
};
use std::time::Duration;
use support::Folder;
use support::fake_node::{FakeNode, for_a_while, until};
use support::running::{RunningOrchestrator, config, events};

fn authority() -> ClusterAuthority {
    ClusterAuthority::new("cell-a").unwrap()
}

/// Patient timers: what is not about detection must not depend on it.
fn patient() -> DetectionTiming {
    DetectionTiming { suspect_after_ms: 10_000, progress_timeout_ms: 10_000, own_pause_ms: 50 }
}

/// Node `owner` makes node `standby` the standby of all its groups.
fn pair(owner: &mut FakeNode, standby: &mut FakeNode) -> Vec<GroupId> {
    let to = standby.me.unwrap();
    let groups = owner.owned();
    for (attempt, group) in groups.iter().enumerate() {
        owner.ask(&ToOrchestrator::Cas { attempt: attempt as u64, to: group.paired_with(to) });
    }
    let count = groups.len();
    until("outcomes", &mut [owner, standby], |nodes| nodes[0].outcomes.len() == count);
    for outcome in owner.outcomes.values() {
        assert!(matches!(outcome, CasOutcome::Applied(record) if record.standby == Some(to)), "{outcome:?}");
    }
    let groups: Vec<_> = groups.iter().map(|group| group.group).collect();
    let known = |node: &FakeNode| groups.iter().all(|group| node.groups[group].standby == Some(to));
    until("records at both", &mut [owner, standby], |nodes| nodes.iter().all(|node| known(node)));
    owner.outcomes.clear();
    groups
}

#[test]
fn nodes_join_and_change_their_records_by_compare_and_swap() {
    let (authority, folder) = (authority(), Folder::new("join"));
    let running = RunningOrchestrator::start(config(&authority, &folder, patient()));
    let mut one = FakeNode::join(&authority, &running, 1);
    let mut two = FakeNode::join(&authority, &running, 2);
    assert_eq!(one.owned().len(), 4);
    let groups = pair(&mut one, &mut two);
    // The same change again is refused: the epoch has moved on.
    let record = one.groups[&groups[0]];
    let stale = escape_proto::GroupRecord { epoch: Epoch(2), mode: Mode::Solo, standby: None, ..record };
    one.ask(&ToOrchestrator::Cas { attempt: 77, to: stale });
    until("a refusal", &mut [&mut one, &mut two], |nodes| nodes[0].outcomes.contains_key(&77));
    assert!(matches!(one.outcomes[&77], CasOutcome::Refused(is) if is == record), "{:?}", one.outcomes[&77]);
    let milestone = Milestone::GateClosed(groups[0], Epoch(2));
    one.ask(&ToOrchestrator::Milestone { at_us: 123, what: milestone });
    let has_gate = || events(&folder).iter().any(|event| event["event"] == "gate-closed" && event["t_us"] == 123);
    until("the milestone in the events", &mut [&mut one, &mut two], |_| has_gate());
    let status = running.stop();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(status["groups"][0]["standby"], 2);
    let joined: Vec<_> = events(&folder).into_iter().filter(|event| event["event"] == "joined").collect();
    assert_eq!(joined.len(), 2);
}

#[test]
fn a_silent_node_is_replaced_and_how_fast_is_printed() {
    let (authority, folder) = (authority(), Folder::new("dead"));
    let running = RunningOrchestrator::start(config(&authority, &folder, DetectionTiming::default()));
    let mut times = Vec::new();
    for round in 0..5 {
        let mut one = FakeNode::join(&authority, &running, 1);
        let mut two = FakeNode::join(&authority, &running, 2);
        let groups = pair(&mut one, &mut two);
        for_a_while(&mut [&mut one, &mut two], Duration::from_millis(30));
        let last_beat = one.beat_us;
        let member = one.me.unwrap();
        // Killed: no beats, and the connection ends.
        drop(one);
        let handed = |node: &FakeNode| groups.iter().all(|group| Some(node.groups[group].owner) == node.me);
        until("the groups of the dead node", &mut [&mut two], |nodes| {
            if now_us() - last_beat > 13_000 {
                nodes[0].suspects = 1 << 1;
            }
            handed(nodes[0])
        });
        let learned = groups.iter().map(|group| two.learned_us[group]).max().unwrap();
        times.push(learned - last_beat);
        assert_eq!(two.nodes[&member.node].state, NodeState::Dead);
        println!("round {round}: last beat → records at the heir: {} µs", learned - last_beat);
        // Node 2 leaves the next round to its next life: the groups of this one are lost with it, as nobody stands by.
    }
    times.sort_unstable();
    println!("last beat → records at the heir: median {} µs of {times:?}", times[times.len() / 2]);
    assert!(times[0] >= 6_000, "nobody is dead before half the limit");
    let log = events(&folder);
    let at = |name: &str| {
        let mut times: Vec<(u64, u64)> = Vec::new();
        for event in log.iter().filter(|event| event["event"] == name) {
            let t_us = event["t_us"].as_u64().unwrap();
            // The first of each round.
            if times.last().is_none_or(|(_, last)| t_us - last > 20_000) {
                times.push((t_us, t_us));
            }
        }
        times.into_iter().map(|(first, _)| first).collect::<Vec<_>>()
    };
    for ((suspected, decided), raised) in at("suspected").iter().zip(at("decided-dead")).zip(at("epoch-raised")) {
        let (confirmed, durable) = (decided.saturating_sub(*suspected), raised - decided);
        println!("suspected → confirmed {confirmed} µs → durable {durable} µs");
    }
    for wanted in ["suspected", "decided-dead", "dead", "epoch-raised"] {
        assert!(log.iter().any(|event| event["event"] == wanted), "no {wanted}");
    }
    running.stop();
}

#[test]
fn neither_silence_alone_nor_a_witness_alone_kills() {
    let (authority, folder) = (authority(), Folder::new("both"));
    let running = RunningOrchestrator::start(config(&authority, &folder, DetectionTiming::default()));
    let mut one = FakeNode::join(&authority, &running, 1);
    let mut two = FakeNode::join(&authority, &running, 2);
    pair(&mut one, &mut two);
    // Two suspects one, which beats.
    two.suspects = 1 << 1;
    for_a_while(&mut [&mut one, &mut two], Duration::from_millis(200));
    assert_eq!(two.nodes[&NodeId(1)].state, NodeState::Up);
    // One is silent, and two hears it.
    two.suspects = 0;
    for_a_while(&mut [&mut one, &mut two], Duration::from_millis(20));
    one.beating = false;
    for_a_while(&mut [&mut one, &mut two], Duration::from_millis(200));
    assert_eq!(two.nodes[&NodeId(1)].state, NodeState::Up);
    one.beating = true;
    for_a_while(&mut [&mut one, &mut two], Duration::from_millis(50));
    let log = events(&folder);
    assert!(log.iter().any(|event| event["event"] == "suspected" && event["node"] == 1));
    assert!(log.iter().any(|event| event["event"] == "recovered" && event["node"] == 1));
    running.stop();
}

#[test]
fn forged_and_replayed_heartbeats_keep_nobody_alive() {
    let (authority, folder) = (authority(), Folder::new("forged"));
    let running = RunningOrchestrator::start(config(&authority, &folder, DetectionTiming::default()));
    let mut one = FakeNode::join(&authority, &running, 1);
    let mut two = FakeNode::join(&authority, &running, 2);
    let groups = pair(&mut one, &mut two);
    for_a_while(&mut [&mut one, &mut two], Duration::from_millis(30));
    let me = one.me.unwrap();
    one.beating = false;
    two.suspects = 1 << 1;
    let key = authority.heartbeat_key.0;
    let replayed = Beat { node: me.node, inc: me.inc, seq: 1, data_turns: 1, suspects: 0 }.seal(&key);
    let mut seq = 1000;
    until("the failover in spite of them", &mut [&mut one, &mut two], |nodes| {
        seq += 1;
        let forged = Beat { node: me.node, inc: me.inc, seq, data_turns: seq, suspects: 0 }.seal(&[9; 32]);
        nodes[1].throw(&forged);
        nodes[1].throw(&replayed);
        nodes[1].throw(b"x");
        nodes[1].throw(&[0xaa; 1400]);
        groups.iter().all(|group| Some(nodes[1].groups[group].owner) == nodes[1].me)
    });
    let status = running.stop();
    assert!(status["beats_forged"].as_u64().unwrap() > 10 && status["beats_malformed"].as_u64().unwrap() > 10);
}

#[test]
fn a_new_orchestrator_goes_on_from_the_store() {
    let (authority, folder) = (authority(), Folder::new("restart"));
    let running = RunningOrchestrator::start(config(&authority, &folder, patient()));
    let mut one = FakeNode::join(&authority, &running, 1);
    let mut two = FakeNode::join(&authority, &running, 2);
    let groups = pair(&mut one, &mut two);
    let before = running.stop();

    let running = RunningOrchestrator::start(config(&authority, &folder, patient()));
    let inc = one.me.unwrap().inc.0;
    let mut again = FakeNode::connect(&authority, &running, 1, inc);
    until("all records", &mut [&mut again], |nodes| groups.iter().all(|group| nodes[0].groups.contains_key(group)));
    assert_eq!(again.groups, one.groups);
    assert_eq!(again.revision.0, before["revision"].as_u64().unwrap());
    // A joined member of a former life is another member.
    let three = FakeNode::join(&authority, &running, 3);
    assert_eq!(three.me.unwrap().inc, Incarnation(1));
    let reborn = FakeNode::join(&authority, &running, 2);
    assert_eq!(reborn.me.unwrap().inc, Incarnation(2));
    running.stop();

    // Secrets of another authority have another placement seed: the store is refused with the cause.
    let other = config(&ClusterAuthority::new("cell-a").unwrap(), &folder, patient());
    let refused = escape_orchestrator::OrchestratorProcess::start(other).err().unwrap();
    assert!(matches!(refused, ProcessError::OtherSeed { .. }), "{refused}");
    let mut wrong = config(&authority, &folder, patient());
    wrong.secrets = authority.issue(Role::Edge).unwrap();
    let refused = escape_orchestrator::OrchestratorProcess::start(wrong).err().unwrap();
    assert_eq!(refused.to_string(), "the secrets are those of edge, this is the orchestrator");
}
