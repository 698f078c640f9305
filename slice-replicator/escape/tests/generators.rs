//! A load that is shared out to several threads, each with a table of open files of its own, is one load. Alone in its process:
//! it counts the process's open files.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use escape::drill::{DrillOptions, Progress, hold, tell};
use escape::load::Tally;
use support::fake_cell::{Behaviour, FakeCell};
use support::misbehaviour::Misbehaviour;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn options() -> DrillOptions {
    DrillOptions {
        sessions: 90,
        generators: 3,
        warm_up: Duration::from_millis(300),
        cool_down: Duration::from_millis(400),
        ..DrillOptions::default()
    }
}

#[test]
fn several_generators_are_one_load_and_leave_nothing_open() {
    let before = open_files();
    let mut cell = FakeCell::start(Behaviour::default());
    let plan = options().plan();
    let result = hold(&mut cell, &plan, &Progress::quiet()).unwrap();
    println!("{}", tell(&result, &plan));
    let report = result.report();
    assert_eq!((report.verdict, report.sessions), ("pass", 90));
    assert_eq!(result.rounds[0].tally(), Tally::default());
    assert!((20..=40).contains(&report.sessions_failed_over), "a third of 81 HTTP sessions: {report:?}");
    assert!(report.in_flight_at_fault >= 10, "{report:?}");
    assert!(report.gap_ms.max >= 10.0 && report.gap_ms.max < 150.0, "one clock for all: {report:?}");
    drop(cell);
    assert_eq!(open_files(), before);

    // What one of them finds fails the drill, and is told by the session's number in the whole load.
    let mut cell = FakeCell::start(Behaviour { service: Misbehaviour::WrongByte, ..Behaviour::default() });
    let result = hold(&mut cell, &plan, &Progress::quiet()).unwrap();
    assert_eq!(result.report().verdict, "fail");
    assert!(!result.load.described.is_empty());
}
