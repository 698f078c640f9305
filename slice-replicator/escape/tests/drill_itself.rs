//! The drill is drilled: a service that does one thing wrong once must make the verdict "fail", with the right name
//! for what it did; a service that does nothing wrong must pass.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use escape::drill::{DrillOptions, DrillResult, Progress, Promise, Report, Verdict, hold, tell};
use escape::load::Tally;
use support::fake_cell::{Behaviour, FakeCell};
use support::misbehaviour::Misbehaviour;

const SEED: u64 = 42;

fn options() -> DrillOptions {
    DrillOptions {
        sessions: 90,
        seed: SEED,
        warm_up: Duration::from_millis(300),
        cool_down: Duration::from_millis(400),
        ..DrillOptions::default()
    }
}

fn drill_with(behaviour: Behaviour, options: &DrillOptions) -> DrillResult {
    let mut cell = FakeCell::start(behaviour);
    let plan = options.plan();
    let result = hold(&mut cell, &plan, &Progress::quiet()).unwrap();
    assert!(cell.shut_down);
    println!("seed {SEED}\n{}", tell(&result, &plan));
    result
}

fn drill(behaviour: Behaviour) -> (Report, Verdict) {
    let result = drill_with(behaviour, &options());
    (result.report(), Verdict::of(&result.rounds))
}

/// One misbehaviour must fail the drill and be counted as what it is, and nothing else.
fn must_fail(service: Misbehaviour, count: fn(&Report) -> u64) {
    let (report, _) = drill(Behaviour { service, ..Behaviour::default() });
    assert_eq!(report.verdict, "fail", "{service:?}");
    assert!(count(&report) > 0, "{service:?}: {report:?}");
}

fn is_broken(verdict: &Verdict, promise: Promise) -> bool {
    verdict.findings.iter().any(|finding| finding.promise == promise && !finding.kept)
}

#[test]
fn a_right_service_passes() {
    let result = drill_with(Behaviour::default(), &options());
    let report = result.report();
    assert_eq!(report.verdict, "pass");
    assert_eq!(result.rounds[0].tally(), Tally::default());
    assert_eq!(report.sessions, 90);
    assert!((20..=40).contains(&report.sessions_failed_over), "a third of 81 HTTP sessions: {report:?}");
    assert!(report.in_flight_at_fault >= 10, "{report:?}");
    assert_eq!(report.detect_ms.unwrap().round(), 10.0);
    assert!(report.gap_ms.max >= 10.0 && report.gap_ms.max < 150.0, "{report:?}");
    assert!(report.gap_after_detection_ms.max < report.gap_ms.max);
    assert!(report.requests > 90 && result.load.held_back == 0);
}

#[test]
fn the_json_has_exactly_the_documented_names() {
    let result = drill_with(Behaviour::default(), &DrillOptions { rounds: 2, sessions: 40, ..options() });
    let json = serde_json::to_value(result.report()).unwrap();
    let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut wanted = vec![
        "detect_ms",
        "detected_by",
        "duplicated",
        "gap_after_detection_ms",
        "gap_ms",
        "gap_others_ms",
        "in_flight_at_fault",
        "lost",
        "reordered",
        "reprotect_ms",
        "reprotected",
        "requests",
        "resets",
        "sessions",
        "sessions_failed_over",
        "timeline",
        "unprotected_ms",
        "verdict",
        "wrong_bytes",
    ];
    let rounds = json["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        let mut found = names(round);
        found.sort();
        assert_eq!(found, wanted);
        assert_eq!(round["timeline"][0]["event"], "fault");
        assert_eq!(round["timeline"][0]["t_ms"], 0.0);
    }
    wanted.push("rounds");
    wanted.sort();
    let mut found = names(&json);
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(names(&json["gap_ms"]).len(), 3);
    assert_eq!(names(&json["timeline"][0]).len(), 3);
    let (first, second) = (rounds[0]["requests"].as_u64().unwrap(), rounds[1]["requests"].as_u64().unwrap());
    assert_eq!(json["requests"].as_u64().unwrap(), first + second);
}

#[test]
fn a_dropped_request_fails() {
    must_fail(Misbehaviour::DropRequest, |report| report.lost);
}

#[test]
fn a_swallowed_reply_fails() {
    must_fail(Misbehaviour::SwallowReply, |report| report.lost + report.reordered + report.duplicated);
}

#[test]
fn a_repeated_reply_fails() {
    must_fail(Misbehaviour::RepeatReply, |report| report.duplicated);
}

#[test]
fn a_request_executed_twice_fails() {
    must_fail(Misbehaviour::ExecuteTwice, |report| report.duplicated);
}

#[test]
fn a_wrong_byte_fails() {
    must_fail(Misbehaviour::WrongByte, |report| report.wrong_bytes);
}

#[test]
fn a_wrong_chain_fails() {
    must_fail(Misbehaviour::WrongChain, |report| report.wrong_bytes);
}

#[test]
fn a_reset_fails() {
    must_fail(Misbehaviour::Reset, |report| report.resets);
}

#[test]
fn an_early_close_fails() {
    must_fail(Misbehaviour::Close, |report| report.resets);
}

#[test]
fn forgotten_requests_fail() {
    must_fail(Misbehaviour::RollBack, |report| report.lost);
}

#[test]
fn a_wrong_stream_byte_fails() {
    must_fail(Misbehaviour::StreamWrongByte, |report| report.wrong_bytes);
}

#[test]
fn a_stream_byte_that_the_server_misses_fails() {
    must_fail(Misbehaviour::StreamShortTrailer, |report| report.lost);
}

#[test]
fn frames_of_an_old_owner_break_p2() {
    let (report, verdict) = drill(Behaviour { zombie_frames: 1, ..Behaviour::default() });
    assert!(is_broken(&verdict, Promise::P2) && report.verdict == "fail");
}

#[test]
fn no_protection_in_time_fails() {
    let (report, verdict) = drill(Behaviour { reprotects: false, ..Behaviour::default() });
    assert!(is_broken(&verdict, Promise::Protected) && report.verdict == "fail");
    assert_eq!((report.reprotect_ms, report.unprotected_ms), (None, None));
}

#[test]
fn sessions_that_did_not_move_fail() {
    let (report, verdict) = drill(Behaviour { moves: false, ..Behaviour::default() });
    assert!(is_broken(&verdict, Promise::FailedOver) && report.verdict == "fail");
}

#[test]
fn a_wait_as_long_as_a_retransmission_timeout_fails() {
    let (report, verdict) = drill(Behaviour { outage: Duration::from_millis(700), ..Behaviour::default() });
    assert!(is_broken(&verdict, Promise::Gap) && report.verdict == "fail", "{report:?}");
    assert!(!verdict.gap_goal_met);
}

#[test]
fn short_sessions_come_and_go_beside_the_others() {
    let options = DrillOptions { churn_per_second: 100.0, sessions: 40, ..options() };
    let result = drill_with(Behaviour::default(), &options);
    assert_eq!(result.report().verdict, "pass");
    assert!(result.load.churned > 50);
}
