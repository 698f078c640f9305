//! `escape drill`: start a cell, break a node under load, judge.

use std::time::{Duration, SystemTime};

use super::{CommandError, drill_files};
use crate::cell::{CellPlan, LocalCell};
use crate::cli::DrillArgs;
use crate::drill::{self, Break, Cell, DrillOptions, Fault, Progress};
use crate::exit::Exit;

/// Holds the drill, or drills, and reports.
pub fn run(args: &DrillArgs) -> Result<Exit, CommandError> {
    if args.all || args.file.is_some() {
        return drill_files::run(args);
    }
    let options = options(args);
    // Said first: a drill that never ends can be held again with the same seed.
    eprintln!("seed {}", options.seed);
    let progress = if args.json { Progress::quiet() } else { Progress::shown() };
    let mut cell = open_cell(&options, args.broken)?;
    let plan = options.plan();
    let result = drill::hold(cell.as_mut(), &plan, &progress)?;
    drop(progress);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&result.report())?);
    } else {
        print!("{}", drill::tell(&result, &plan));
    }
    Ok(if result.verdict().is_pass() { Exit::Done } else { Exit::Broken })
}

/// Starts the cell's processes.
fn open_cell(options: &DrillOptions, broken: Option<Break>) -> Result<Box<dyn Cell>, CommandError> {
    let sessions = u32::try_from(options.sessions).unwrap_or(u32::MAX);
    let plan = CellPlan { broken: broken.map(|b| b.name().to_owned()), ..CellPlan::new(sessions) };
    Ok(Box::new(LocalCell::start(plan)?))
}

fn options(args: &DrillArgs) -> DrillOptions {
    DrillOptions {
        sessions: args.sessions as usize,
        generators: args.generators as usize,
        fault: args.fault.unwrap_or(match args.broken {
            Some(Break::OldEpoch) => Fault::Stop,
            _ => Fault::Kill,
        }),
        rounds: args.rounds,
        seed: args.seed.unwrap_or_else(seed_from_clock),
        requests_per_second: args.requests_per_second,
        churn_per_second: args.churn,
        cool_down: Duration::from_secs(args.seconds),
        ..DrillOptions::default()
    }
}

/// Short enough to be typed.
pub(super) fn seed_from_clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_micros()) ^ (now.as_secs() & 0xffff)
}
