//! `escape bench`: figures.

use super::CommandError;
use crate::bench::{LatencyPlan, measure_boot, measure_latency};
use crate::cli::Bench;
use crate::exit::Exit;

/// Measures what is asked for. A missed goal is said, but is no failure of the command.
pub fn run(what: &Bench) -> Result<Exit, CommandError> {
    match what {
        Bench::Latency { rounds, cpus, json } => latency(*rounds, cpus, *json),
        Bench::Boot { runs, json } => boot(*runs, *json),
    }
}

fn latency(rounds: u32, cpus: &[u16], json: bool) -> Result<Exit, CommandError> {
    let plan = LatencyPlan { rounds: rounds as usize, cpus: cpus.to_vec(), ..LatencyPlan::default() };
    let report = measure_latency(&plan)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(Exit::Done)
}

fn boot(runs: u32, json: bool) -> Result<Exit, CommandError> {
    let report = measure_boot(runs)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(Exit::Done)
}
