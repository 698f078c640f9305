//! `escape drill FILE` and `escape drill --all`: drills as files tell them.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::CommandError;
use super::drill::seed_from_clock;
use crate::cell::{CellPlan, LocalCell};
use crate::cli::DrillArgs;
use crate::config::{DrillFile, shipped_drill, shipped_drills};
use crate::drill::{self, Break, DrillError, DrillPlan, DrillResult, DrillSummary, Progress, Report, Summary};
use crate::exit::Exit;

/// How long a fault lasts at most when all drills are held: people who want to see more name the drill.
const LONGEST_OF_ALL: Duration = Duration::from_secs(10);

/// The report of one drill for programs.
#[derive(Serialize)]
struct FileReport {
    #[serde(flatten)]
    summary: DrillSummary,
    rounds: Vec<Report>,
}

/// Holds what the command line names.
pub fn run(args: &DrillArgs) -> Result<Exit, CommandError> {
    let Some(name) = &args.file else {
        let shipped = shipped_drills().filter_map(|name| Some((name.to_owned(), shipped_drill(name)?)));
        let files = shipped.map(|(name, file)| Ok((name, file?))).collect::<Result<Vec<_>, CommandError>>()?;
        return many(&files, args, Some(LONGEST_OF_ALL));
    };
    let file = find(name)?;
    let name = name.display().to_string();
    if file.cells > 1 { many(&[(name, file)], args, None) } else { one(&name, &file, args) }
}

fn one(name: &str, file: &DrillFile, args: &DrillArgs) -> Result<Exit, CommandError> {
    let plan = file.plan(seed(file, args), args.longest.map(Duration::from_secs));
    eprintln!("seed {}", plan.seed);
    let progress = if args.json { Progress::quiet() } else { Progress::shown() };
    let result = hold(file, &plan, args.broken, &progress);
    drop(progress);
    if args.json {
        let rounds = result.as_ref().map(|result| result.report().rounds).unwrap_or_default();
        let summary = DrillSummary::of(name, &file.title, plan.seed, &result);
        println!("{}", serde_json::to_string_pretty(&FileReport { summary, rounds })?);
    }
    let result = result?;
    if !args.json {
        print!("{}\n\n{}", file.title, drill::tell(&result, &plan));
    }
    Ok(if result.verdict().is_pass() { Exit::Done } else { Exit::Broken })
}

/// Holds drills one after the other, each on as many cells as its file says, and prints one table.
fn many(files: &[(String, DrillFile)], args: &DrillArgs, longest: Option<Duration>) -> Result<Exit, CommandError> {
    let longest = args.longest.map(Duration::from_secs).or(longest);
    let mut drills = Vec::new();
    for (name, file) in files {
        let first_seed = seed(file, args);
        for number in 0..file.cells {
            let name = if file.cells == 1 { name.clone() } else { format!("{name} {}", number + 1) };
            let plan = file.plan(first_seed.wrapping_add(number.into()), longest);
            drills.push(summarize(&name, file, &plan, args));
        }
    }
    let summary = Summary::of(drills);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print!("{}", summary.table());
    }
    Ok(if summary.verdict == "pass" { Exit::Done } else { Exit::Broken })
}

fn summarize(name: &str, file: &DrillFile, plan: &DrillPlan, args: &DrillArgs) -> DrillSummary {
    eprintln!("{name}: {} (seed {})", file.title, plan.seed);
    let progress = if args.json { Progress::quiet() } else { Progress::shown() };
    let result = hold(file, plan, args.broken, &progress);
    drop(progress);
    let summary = DrillSummary::of(name, &file.title, plan.seed, &result);
    // A drill that failed is told in full at once: its line of the table alone does not say why.
    if let (Ok(result), false) = (&result, summary.verdict == "pass") {
        eprint!("{}", drill::tell(result, plan));
    }
    summary
}

/// A file that exists goes before a shipped drill of the same name.
fn find(name: &Path) -> Result<DrillFile, CommandError> {
    if name.is_file() {
        return Ok(DrillFile::read(name)?);
    }
    let shipped = name.to_str().and_then(shipped_drill);
    let no_such_drill = || CommandError::NoSuchDrill {
        name: name.display().to_string(),
        shipped: shipped_drills().collect::<Vec<_>>().join(", "),
    };
    Ok(shipped.ok_or_else(no_such_drill)??)
}

fn seed(file: &DrillFile, args: &DrillArgs) -> u64 {
    args.seed.unwrap_or_else(|| if file.seed == 0 { seed_from_clock() } else { file.seed })
}

fn hold(
    file: &DrillFile,
    plan: &DrillPlan,
    broken: Option<Break>,
    progress: &Progress,
) -> Result<DrillResult, DrillError> {
    let cell_plan = CellPlan { broken: broken.map(|b| b.name().to_owned()), ..file.cell_plan() };
    let mut cell = LocalCell::start(cell_plan).map_err(|error| DrillError::Cell(error.into()))?;
    drill::hold(&mut cell, plan, progress)
}
