//! What people learn of a running orchestrator: by a link of their own, and by metrics.
#![allow(clippy::unwrap_used)]

mod support;

use escape_link::ClusterAuthority;
use escape_orchestrator::{DetectionTiming, OrchestratorProcessConfig};
use escape_proto::{CasOutcome, CellStatus, FailoverCause, GroupSlices, Milestone, Mode, SliceCounts, ToOrchestrator};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::fake_node::{FakeNode, for_a_while, until};
use support::fake_operator::FakeOperator;
use support::running::{RunningOrchestrator, config};
use support::{Folder, PATIENCE};

/// Patient timers: what is not about detection must not depend on it.
fn patient() -> DetectionTiming {
    DetectionTiming { suspect_after_ms: 10_000, progress_timeout_ms: 10_000, own_pause_ms: 50 }
}

/// Asks until the answer fits.
fn status_when(
    operator: &mut FakeOperator,
    nodes: &mut [&mut FakeNode],
    fits: impl Fn(&CellStatus) -> bool,
) -> CellStatus {
    let begun = Instant::now();
    loop {
        let status = operator.status();
        if fits(&status) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "{status:?}");
        for_a_while(nodes, Duration::from_millis(5));
    }
}

/// Node `owner` makes `standby` the standby of its first group.
fn pair_one(owner: &mut FakeNode, standby: &mut FakeNode) {
    let to = standby.me.unwrap();
    let record = owner.owned()[0];
    owner.ask(&ToOrchestrator::Cas { attempt: 1, to: record.paired_with(to) });
    until("a standby", &mut [owner, standby], |nodes| {
        matches!(nodes[0].outcomes.get(&1), Some(CasOutcome::Applied(_)))
            && nodes[1].groups.get(&record.group).is_some_and(|g| g.standby == Some(to))
    });
}

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_operator_is_told_how_the_cell_is() {
    let (authority, folder) = (ClusterAuthority::new("cell-a").unwrap(), Folder::new("operator"));
    let metrics = Some("127.0.0.1:0".parse().unwrap());
    let config = OrchestratorProcessConfig { metrics, ..config(&authority, &folder, patient()) };
    let running = RunningOrchestrator::start(config);
    let mut one = FakeNode::join(&authority, &running, 1);
    let mut two = FakeNode::join(&authority, &running, 2);
    pair_one(&mut one, &mut two);
    let mut operator = FakeOperator::connect(&authority, &running);
    let group = one.owned()[0].group;
    let counts = SliceCounts { protected: 7, solo: 2, standby: 3, held_frames: 4, held_age_us: 900 };
    one.ask(&ToOrchestrator::Counts(counts));
    let foreign = two.owned()[0].group;
    let figures = |group| GroupSlices { group, protected: 7, solo: 2 };
    one.ask(&ToOrchestrator::GroupCounts(vec![figures(group), figures(foreign)]));
    let status = status_when(&mut operator, &mut [&mut one, &mut two], |s| s.groups.iter().any(|g| g.solo > 0));
    assert_eq!((status.nodes.len(), status.groups.len(), status.edge_linked), (2, 8, false));
    let node = status.nodes.iter().find(|node| node.node == 1).unwrap();
    assert_eq!((node.host.as_str(), node.up, node.linked), ("host-1", true, true));
    assert_eq!((node.protected, node.held_frames, node.held_age_us), (7, 4, 900));
    let told = |wanted| status.groups.iter().find(|g| g.group == wanted).copied().unwrap();
    assert_eq!((told(group.0).mode, told(group.0).standby, told(group.0).protected), (Mode::Paired, Some(2), 7));
    assert_eq!(told(foreign.0).protected, 0, "of a group that is not the sender's");
    assert_eq!(status.last_failover, None);
    let later =
        status_when(&mut operator, &mut [&mut one, &mut two], |s| s.groups.iter().any(|g| g.unprotected_us > 50_000));
    assert!(later.uptime_us > status.uptime_us);

    let begun = Instant::now();
    loop {
        let told = scrape(running.metrics.unwrap());
        let wanted =
            ["escape_orchestrator_slices{state=\"solo\"} 2\n", "escape_orchestrator_groups{mode=\"paired\"} 1\n"];
        if wanted.iter().all(|line| told.contains(line)) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{told}");
        for_a_while(&mut [&mut one, &mut two], Duration::from_millis(20));
    }
}

#[test]
fn a_failover_is_told_with_node_cause_and_duration() {
    let (authority, folder) = (ClusterAuthority::new("cell-a").unwrap(), Folder::new("told"));
    // Patient enough for a heir that only beats between its turns.
    let timing = DetectionTiming { suspect_after_ms: 400, progress_timeout_ms: 10_000, own_pause_ms: 50 };
    let running = RunningOrchestrator::start(config(&authority, &folder, timing));
    let mut one = FakeNode::join(&authority, &running, 1);
    let mut two = FakeNode::join(&authority, &running, 2);
    pair_one(&mut one, &mut two);
    let group = one.owned()[0].group;
    one.ask(&ToOrchestrator::GroupCounts(vec![GroupSlices { group, protected: 9, solo: 0 }]));
    let mut operator = FakeOperator::connect(&authority, &running);
    status_when(&mut operator, &mut [&mut one, &mut two], |s| s.groups.iter().any(|g| g.protected == 9));
    let member = one.me.unwrap();
    drop(one);
    two.suspects = 1 << 1;
    let status =
        status_when(&mut operator, &mut [&mut two], |s| s.last_failover.as_ref().is_some_and(|f| f.groups > 0));
    let handed = status.groups.iter().find(|g| g.group == group.0).unwrap();
    assert_eq!((handed.owner, handed.mode, handed.protected, handed.solo), (2, Mode::Solo, 0, 9));
    until("the record at the heir", &mut [&mut two], |nodes| nodes[0].groups[&group].owner.node.0 == 2);
    let epoch = two.groups[&group].epoch;
    two.ask(&ToOrchestrator::Milestone { at_us: 1, what: Milestone::LastPlugged(group, epoch, 9) });
    let status =
        status_when(&mut operator, &mut [&mut two], |s| s.last_failover.as_ref().is_some_and(|f| f.slices > 0));
    let last = status.last_failover.unwrap();
    assert_eq!((status.failovers, last.node, last.inc, last.slices), (1, 1, member.inc.0, 9));
    assert!(matches!(last.cause, FailoverCause::Silent { ref detected_by, .. } if detected_by == &[2]), "{last:?}");
    assert_eq!(last.plugged_us.is_some(), last.groups == last.groups_plugged, "{last:?}");
    assert_eq!((last.groups_protected, last.protected_us), (0, None));
}

#[test]
fn operators_take_no_places_from_nodes_and_ask_for_nothing_else() {
    let (authority, folder) = (ClusterAuthority::new("cell-a").unwrap(), Folder::new("crowd"));
    let running = RunningOrchestrator::start(config(&authority, &folder, patient()));
    let mut crowd: Vec<_> = (0..12).map(|_| FakeOperator::connect(&authority, &running)).collect();
    // What a node says is no question.
    let mut rude = FakeOperator::connect(&authority, &running);
    rude.link.send(&ToOrchestrator::Counts(SliceCounts::default())).unwrap();
    assert!(rude.ends_within(PATIENCE), "it may go on");
    let mut one = FakeNode::join(&authority, &running, 1);
    assert_eq!(crowd.last_mut().unwrap().status().nodes.len(), 1);
    let ended = crowd.iter_mut().filter_map(|operator| operator.ends_within(PATIENCE / 100).then_some(()));
    // The rude one's place was the fourth before it was dropped.
    assert_eq!(ended.count(), crowd.len() - 3, "the newest stay");
    until("a node among operators", &mut [&mut one], |nodes| nodes[0].is_open());
}
