//! `escape bench`: figures.

use super::CommandError;
use crate::bench::{
    FailoverPlan, LatencyPlan, MemoryPlan, MovingPlan, TcpCapsulePlan, ThroughputPlan, WirePlan, measure_boot,
    measure_failover, measure_latency, measure_memory, measure_moving, measure_tcp_capsule, measure_throughput,
    measure_wire,
};
use crate::cli::Bench;
use crate::exit::Exit;
use serde::Serialize;
use std::time::Duration;

/// Changes of `bench wire`, bytes: less than a line to half of a slot's heap.
const WIRE_CHANGES: [usize; 4] = [32, 512, 4_096, 65_536];
/// What a used session has done in `bench memory`.
const USED_BYTES: usize = 4_096;
const USED_REQUESTS: usize = 4;

/// Measures what is asked for. A missed goal is said, but is no failure of the command.
pub fn run(what: &Bench) -> Result<Exit, CommandError> {
    match what {
        Bench::Latency { rounds, cpus, json } => {
            let plan = LatencyPlan { rounds: *rounds as usize, cpus: cpus.clone(), ..LatencyPlan::default() };
            let report = measure_latency(&plan)?;
            tell(*json, &report, || report.table())
        }
        Bench::Wire { seconds, json } => {
            let time = Duration::from_secs(*seconds);
            let report = measure_wire(&WirePlan { changed_bytes: WIRE_CHANGES.to_vec(), time })?;
            tell(*json, &report, || report.table())
        }
        Bench::Memory { sessions, json } => {
            let plan = MemoryPlan { sessions: *sessions, used_bytes: USED_BYTES, used_requests: USED_REQUESTS };
            let report = measure_memory(&plan)?;
            tell(*json, &report, || report.table())
        }
        Bench::Throughput { sessions, rounds, seconds, json } => {
            let time = Duration::from_secs(*seconds);
            let plan = ThroughputPlan { sessions: *sessions, rounds: *rounds as usize, time };
            let report = measure_throughput(&plan)?;
            tell(*json, &report, || report.table())
        }
        Bench::Failover { sessions, seconds, seed, json } => {
            let sessions = sessions.iter().map(|sessions| *sessions as usize).collect();
            let plan = FailoverPlan { sessions, time: Duration::from_secs(*seconds), seed: *seed };
            let report = measure_failover(&plan)?;
            tell(*json, &report, || report.table())
        }
        Bench::Move { moves, json } => {
            let report = measure_moving(MovingPlan { moves: *moves })?;
            tell(*json, &report, || report.table())
        }
        Bench::TcpCapsule { connections, threads, unread, json } => {
            let plan = TcpCapsulePlan {
                connections: *connections as usize,
                threads: *threads as usize,
                unread_bytes: *unread as usize,
            };
            let report = measure_tcp_capsule(&plan)?;
            tell(*json, &report, || report.table())
        }
        Bench::Boot { runs, json } => {
            let report = measure_boot(*runs)?;
            tell(*json, &report, || report.table())
        }
    }
}

fn tell<R: Serialize>(json: bool, report: &R, table: impl FnOnce() -> String) -> Result<Exit, CommandError> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{}", table());
    }
    Ok(Exit::Done)
}
