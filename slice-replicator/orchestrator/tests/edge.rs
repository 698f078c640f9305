//! The edge's process with a real orchestrator, a real fabric, and nodes that are cables.
#![allow(clippy::unwrap_used)]

mod support;

use escape_fabric::netns::NetNs;
use escape_link::ClusterAuthority;
use escape_orchestrator::DetectionTiming;
use escape_proto::{EdgeReply, EdgeRequest, Flow, FlowEntry, ToOrchestrator};
use std::time::Duration;
use support::Folder;
use support::edge_bed::{ACK, Cable, EdgeCaller, RunningEdge, SYN, config as edge_config, segment};
use support::fake_node::{FakeNode, for_a_while, until};
use support::running::{RunningOrchestrator, config};

/// Timers that judge nobody in this test.
fn patient() -> DetectionTiming {
    DetectionTiming { suspect_after_ms: 60_000, progress_timeout_ms: 60_000, own_pause_ms: 1_000 }
}

fn namespace() -> Option<NetNs> {
    let namespace = NetNs::create();
    if namespace.is_err() {
        println!("SKIPPED: network namespaces need CAP_SYS_ADMIN");
    }
    namespace.ok()
}

struct Cables {
    uplink: Cable,
    data: [Cable; 2],
    mirror: [Cable; 2],
}

impl Cables {
    fn new(namespace: &NetNs) -> Self {
        let cable = |name: &str| Cable::new(namespace, name);
        Self {
            uplink: cable("uplink"),
            data: [cable("data1"), cable("data2")],
            mirror: [cable("mirror1"), cable("mirror2")],
        }
    }

    /// A client's segment reaches exactly the data cable of this node.
    fn reaches(&mut self, node: usize, port: u16, flags: u8) {
        let frame = segment(true, port, flags);
        self.uplink.send(&frame);
        assert_eq!(self.data[node - 1].receive(), Some(frame), "port {port} at node {node}");
        assert_eq!(self.data[2 - node].receive(), None);
    }
}

#[test]
fn flows_follow_their_group_to_the_standby_and_the_old_owner_is_silent() {
    let Some(namespace) = namespace() else { return };
    let (authority, folder) = (ClusterAuthority::new("cell-a").unwrap(), Folder::new("edge"));
    let orchestrator = RunningOrchestrator::start(config(&authority, &folder, patient()));
    let mut cables = Cables::new(&namespace);
    let edge = RunningEdge::start(edge_config(&authority, &folder, &namespace, &orchestrator));

    // One node owns everything; a SYN is placed with it.
    let mut one = FakeNode::join(&authority, &orchestrator, 1);
    let mut edge_one = EdgeCaller::connect(&authority, &edge, one.me.unwrap());
    edge_one.flip(&one);
    std::thread::sleep(Duration::from_millis(50));
    cables.reaches(1, 1000, SYN);
    cables.reaches(1, 1000, ACK);
    cables.data[0].send(&segment(false, 1000, ACK));
    assert_eq!(cables.uplink.receive(), Some(segment(false, 1000, ACK)));
    // A flow that the owner names, without a SYN that was seen.
    cables.uplink.send(&segment(true, 2000, ACK));
    assert_eq!(cables.data[0].receive(), None);
    let group = one.owned()[0].group;
    let flow = Flow { ip: [10, 1, 0, 1], port: 2000, service_port: 80 };
    edge_one.ask(&EdgeRequest::Flows(vec![FlowEntry { flow, group }]));
    std::thread::sleep(Duration::from_millis(100));
    cables.reaches(1, 2000, ACK);

    // A standby gets copies.
    let mut two = FakeNode::join(&authority, &orchestrator, 2);
    let to = two.me.unwrap();
    for (attempt, group) in one.owned().iter().enumerate() {
        one.ask(&ToOrchestrator::Cas { attempt: attempt as u64, to: group.paired_with(to) });
    }
    let paired = |node: &FakeNode| node.owned().iter().all(|group| group.standby == Some(to));
    until("records with a standby", &mut [&mut one, &mut two], |nodes| paired(nodes[0]));
    for_a_while(&mut [&mut one, &mut two], Duration::from_millis(50));
    cables.reaches(1, 1000, ACK);
    assert_eq!(cables.mirror[1].receive(), Some(segment(true, 1000, ACK)));

    // The guest of node 1 dies: its groups go to node 2, and the frames after them once its gates are closed.
    one.ask(&ToOrchestrator::GuestDown { cause: "test".into(), crash: 1, referenced: 0, suspects: vec![] });
    let mine = |node: &FakeNode| node.groups.values().filter(|group| Some(group.owner) == node.me).count() == 8;
    until("records of the handover", &mut [&mut one, &mut two], |nodes| mine(nodes[1]) && nodes[0].owned().is_empty());
    cables.reaches(1, 1000, ACK);
    let mut edge_two = EdgeCaller::connect(&authority, &edge, two.me.unwrap());
    edge_two.flip(&two);
    cables.reaches(2, 1000, ACK);
    cables.reaches(2, 2000, ACK);
    for _ in 0..5 {
        cables.data[0].send(&segment(false, 1000, ACK));
    }
    assert_eq!(cables.uplink.receive(), None, "a zombie is heard");
    cables.data[1].send(&segment(false, 1000, ACK));
    assert_eq!(cables.uplink.receive(), Some(segment(false, 1000, ACK)));
    let counters = edge.counters();
    let node = &counters["nodes"]["1"];
    assert_eq!(node["deposed"], true, "{counters}");
    assert_eq!(node["passed_after_deposed"], 0, "{counters}");
    assert!(node["dropped"].as_u64().unwrap() >= 5, "{counters}");
    assert_eq!(counters["nodes"]["2"]["groups"], 8);

    // The old owner asks for its groups at its old epoch: stale.
    edge_one.replies.clear();
    edge_one.ask(&EdgeRequest::GateClosed { groups: vec![(group, escape_proto::Epoch(2))] });
    edge_one.until(
        "a stale answer",
        |caller| matches!(caller.replies.last(), Some(EdgeReply::Stale { owner, .. }) if *owner == to.node),
    );

    let log = std::fs::read_to_string(folder.file("edge.jsonl")).unwrap();
    let flipped = log.lines().filter(|line| line.contains("\"flipped\"") && line.contains("\"node\":2"));
    assert_eq!(flipped.count(), 8, "{log}");
}

#[test]
fn flows_go_on_while_an_edge_is_replaced() {
    let Some(namespace) = namespace() else { return };
    let (authority, folder) = (ClusterAuthority::new("cell-a").unwrap(), Folder::new("edge-again"));
    let orchestrator = RunningOrchestrator::start(config(&authority, &folder, patient()));
    let mut cables = Cables::new(&namespace);
    let edge = RunningEdge::start(edge_config(&authority, &folder, &namespace, &orchestrator));
    let one = FakeNode::join(&authority, &orchestrator, 1);
    EdgeCaller::connect(&authority, &edge, one.me.unwrap()).flip(&one);
    std::thread::sleep(Duration::from_millis(50));
    cables.reaches(1, 1000, SYN);
    drop(edge);
    cables.reaches(1, 1000, ACK);
    let edge = RunningEdge::start(edge_config(&authority, &folder, &namespace, &orchestrator));
    cables.reaches(1, 1000, ACK);
    // The owner is asked for its groups anew, as after any new link, and is in the new tables from the first packet on.
    EdgeCaller::connect(&authority, &edge, one.me.unwrap()).flip(&one);
    cables.reaches(1, 1000, ACK);
    assert!(edge.counters()["nodes"]["1"]["groups"] == 4, "{}", edge.counters());
}

#[test]
fn a_port_that_comes_late_or_comes_back_gets_its_groups() {
    let Some(namespace) = namespace() else { return };
    let (authority, folder) = (ClusterAuthority::new("cell-a").unwrap(), Folder::new("edge-ports"));
    let orchestrator = RunningOrchestrator::start(config(&authority, &folder, patient()));
    let mut uplink = Cable::new(&namespace, "uplink");
    let edge = RunningEdge::start(edge_config(&authority, &folder, &namespace, &orchestrator));
    let one = FakeNode::join(&authority, &orchestrator, 1);
    let mut caller = EdgeCaller::connect(&authority, &edge, one.me.unwrap());
    let groups = one.owned().iter().map(|group| (group.group, group.epoch)).collect();
    caller.ask(&EdgeRequest::GateClosed { groups });
    std::thread::sleep(Duration::from_millis(100));
    caller.until("nothing yet", |_| true);
    assert!(caller.replies.is_empty(), "flipped to a port that is not there: {:?}", caller.replies);
    let mut data = Cable::new(&namespace, "data1");
    let _mirror = Cable::new(&namespace, "mirror1");
    caller.until("the flip", |caller| !caller.replies.is_empty());
    std::thread::sleep(Duration::from_millis(50));
    uplink.send(&segment(true, 1000, SYN));
    assert_eq!(data.receive(), Some(segment(true, 1000, SYN)));
    // The interface vanishes and comes back under another index.
    let mut links = escape_fabric::links::Links::open_in(&namespace).unwrap();
    let old = links.index_of("data1").unwrap();
    links.delete(old).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    uplink.send(&segment(true, 1000, ACK));
    let mut data = Cable::new(&namespace, "data1");
    assert_ne!(links.index_of("data1").unwrap(), old);
    std::thread::sleep(Duration::from_millis(100));
    uplink.send(&segment(true, 1000, ACK));
    assert_eq!(data.receive(), Some(segment(true, 1000, ACK)));
}
