//! Drills of files are drilled: a cell that breaks what a file promises must make the verdict "fail", one that keeps it must
//! pass.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::time::Duration;

use escape::config::DrillFile;
use escape::drill::{DrillResult, DrillSummary, Progress, Promise, Summary, hold, tell};
use support::fake_cell::{Behaviour, FakeCell};

const HEAD: &str = "title = \"a drill of the drill\"\n[load]\nsessions = 60\n[pace]\nwarm_up_ms = 100\nwatch_ms = 50\n\
                    cool_down_ms = 300\n";
const SEED: u64 = 42;

fn drill(behaviour: Behaviour, text: &str) -> (DrillResult, Vec<String>) {
    let file = DrillFile::parse(Path::new("drill.toml"), &format!("{HEAD}{text}")).unwrap_or_else(|e| panic!("{e}"));
    let plan = file.plan(SEED, None);
    let mut cell = FakeCell::start(behaviour);
    let result = hold(&mut cell, &plan, &Progress::quiet()).unwrap();
    assert!(cell.shut_down);
    println!("{}", tell(&result, &plan));
    (result, cell.done)
}

fn broken(result: &DrillResult) -> Vec<Promise> {
    result.verdict().findings.iter().filter(|finding| !finding.kept).map(|finding| finding.promise).collect()
}

const STORE_AWAY: &str = "[[faults]]\nkind = \"stop\"\nnode = \"orchestrator\"\nlasts_ms = 1500\n\
                          [must]\nno_failover = true\nachieved_over_offered = 0.9\nlatency_max_ms = 1000\n";

#[test]
fn a_store_that_is_away_and_missed_by_nobody_passes() {
    let (result, done) = drill(Behaviour::default(), STORE_AWAY);
    assert_eq!(broken(&result), []);
    assert_eq!(done, ["stop orchestrator", "heal orchestrator"]);
    let achieved = result.rounds[0].achieved.unwrap();
    assert!(achieved.offered > 300 && achieved.ratio() > 0.9, "{achieved:?}");
    assert!(!tell(&result, &DrillFile::default().plan(1, None)).contains("gap after detection"));
}

#[test]
fn a_store_without_which_the_load_stalls_fails() {
    let behaviour = Behaviour { stall: Duration::from_secs(2), ..Behaviour::default() };
    let (result, _) = drill(behaviour, STORE_AWAY);
    let broken = broken(&result);
    assert!(broken.contains(&Promise::Achieved) && broken.contains(&Promise::Latency), "{broken:?}");
    assert_eq!(result.report().verdict, "fail");
}

#[test]
fn a_failover_where_none_may_be_fails() {
    let behaviour = Behaviour { hands_over: true, ..Behaviour::default() };
    assert_eq!(broken(&drill(behaviour, STORE_AWAY).0), [Promise::NoFailover]);
    let behaviour = Behaviour { false_death: Some(2), ..Behaviour::default() };
    assert_eq!(broken(&drill(behaviour, "[[faults]]\nnode = 1\n").0), [Promise::NoFailover]);
    let text = "[[faults]]\nnode = 1\n[must]\nfalse_failovers = 1\n";
    assert_eq!(broken(&drill(behaviour, text).0), []);
}

#[test]
fn waits_are_judged_by_the_file() {
    let behaviour = Behaviour { outage: Duration::from_millis(400), ..Behaviour::default() };
    let with = |must: &str| broken(&drill(behaviour, &format!("[[faults]]\n{must}")).0);
    assert_eq!(with(""), [Promise::Gap]);
    assert_eq!(with("[must]\nwait_p50_ms = 1000\n"), []);
    assert_eq!(with("[must]\nwait_p50_ms = 1000\nwait_p99_ms = 100\n"), [Promise::Gap]);
}

#[test]
fn sessions_of_groups_that_are_reported_as_lost_may_end_and_no_others() {
    let behaviour = Behaviour { loses: true, ..Behaviour::default() };
    let (result, _) = drill(behaviour, "[[faults]]\nnode = 1\n[[faults]]\nnode = 2\n[must]\nlost_groups = true\n");
    let lost = result.rounds[0].lost;
    assert_eq!((lost.groups, lost.sessions), (1, 20));
    // What was lost moved nowhere; that is a finding of its own, and the only one.
    assert_eq!(broken(&result), [Promise::FailedOver]);
    assert_eq!(result.load.excused, 40);
    let (result, _) = drill(behaviour, "[[faults]]\nnode = 1\n");
    let broken_now = broken(&result);
    assert!(broken_now.contains(&Promise::P1) && broken_now.contains(&Promise::P3), "{broken_now:?}");
    let (result, _) = drill(Behaviour::default(), "[[faults]]\n[must]\nlost_groups = true\n");
    assert_eq!(broken(&result), [Promise::Lost]);
}

#[test]
fn a_drill_of_paused_copies_wants_them_claimed_and_ends_the_pause_in_time() {
    let text = "[[faults]]\nkind = \"stop\"\nnode = 1\nlasts_ms = 100\nheal = \"in_time\"\nthen = \"nothing\"\n\
                [[faults]]\nnode = 2\n[must]\nclaimed_groups = true\n";
    let (result, _) = drill(Behaviour::default(), text);
    assert_eq!(broken(&result), [Promise::Claimed]);
    let (result, done) = drill(Behaviour { claims: true, ..Behaviour::default() }, text);
    assert_eq!(broken(&result), []);
    assert_eq!(done, ["stop 1", "kill 2", "heal 1", "heal 2"]);
}

#[test]
fn places_moments_and_ends_are_those_of_the_file() {
    let text = "repeat = 1\n[[faults]]\nnode = 2\nthen = \"epoch_raised\"\n[[faults]]\nnode = \"orchestrator\"\n\
                at = \"after_transaction\"\nlasts_ms = 100\n[[faults]]\nnode = \"next\"\n[[faults]]\nkind = \"cut\"\n\
                node = 1\ndirection = \"to_peer\"\nlasts_ms = 100\n";
    let text = text.replace("repeat = 1\n", "");
    let (result, done) = drill(Behaviour::default(), &text);
    let wanted = [
        "arm after-transaction",
        "kill 2",
        "kill orchestrator after-transaction",
        "heal orchestrator",
        "heal 2",
        "kill 3",
        "heal 3",
        "cut node 1 node 2 false",
        "mend",
    ];
    assert_eq!(done, wanted);
    assert_eq!(result.rounds.len(), 3);
    let told: Vec<String> = result.rounds[0].injuries.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["kill of node 2", "kill of the orchestrator after-transaction"]);
    assert_eq!(result.rounds.iter().map(|round| round.failover_expected).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn the_table_has_a_line_per_drill_and_one_that_fails_fails_all() {
    let summary = |name: &str, behaviour| {
        let (result, _) = drill(behaviour, "[[faults]]\nnode = 1\n");
        DrillSummary::of(name, "title", SEED, &Ok(result))
    };
    let good = summary("good", Behaviour::default());
    let all_good = Summary::of(vec![good.clone()]);
    assert_eq!((all_good.verdict, all_good.faults, all_good.broken_promises), ("pass", 1, 0));
    let bad = summary("bad", Behaviour { zombie_frames: 1, ..Behaviour::default() });
    let mixed = Summary::of(vec![good, bad]);
    assert_eq!((mixed.verdict, mixed.faults, mixed.broken_promises), ("fail", 2, 1));
    let table = mixed.table();
    assert!(table.lines().any(|line| line.starts_with("good ") && line.ends_with("PASS")), "{table}");
    assert!(table.lines().any(|line| line.starts_with("bad ") && line.ends_with("FAIL")), "{table}");
    assert!(table.contains("bad: BROKEN P2 one owner: 1 frames") && table.ends_with("verdict: FAIL\n"), "{table}");
    assert_eq!(serde_json::to_value(&mixed).unwrap()["drills"][1]["broken"][0]["promise"], "P2 one owner");
    assert_eq!(Summary::of(Vec::new()).verdict, "fail");
}
