//! `escape-sim`: seeds in, verdicts out.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::Parser;
use escape_engine::Mutant;
use escape_sim::{Batch, BatchResult, Found, Hunt, Outcome, Plan, run};
use std::io::IsTerminal;
use std::process::ExitCode;

/// So many seeds must have made every kind of fault.
const SEEDS_FOR_ALL_KINDS: usize = 1_000;

/// Simulates whole cells on the production machines and checks the invariants after every step.
#[derive(Debug, Parser)]
#[command(name = "escape-sim", version)]
struct Arguments {
    /// How many seeds to run; with --mutants, how many of each at the most.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this seed only, twice, and compare.
    #[arg(long)]
    seed: Option<u64>,
    /// Run each seed twice: the traces must be equal.
    #[arg(long)]
    twice: bool,
    /// Print every step (with --seed).
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Steps of each run before all faults end.
    #[arg(long, default_value_t = 2000)]
    events: u64,
    /// Break the machines on purpose, and stop at the first seed that finds it.
    #[arg(long)]
    mutant: Option<Mutant>,
    /// Look for every deliberate fault, and print how soon each is found.
    #[arg(long, conflicts_with_all = ["seed", "mutant", "twice"])]
    mutants: bool,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let a = Arguments::parse();
    let result = match a.seed {
        Some(seed) => one(&a, seed),
        None if a.mutants => hunt(&a),
        None => many(&a),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn plan(a: &Arguments, seed: u64) -> Plan {
    Plan { seed, steps: a.events, broken: a.mutant, trace: a.trace }
}

fn one(a: &Arguments, seed: u64) -> Result<()> {
    let outcome = run(plan(a, seed));
    report(a, &outcome);
    let again = run(Plan { trace: false, ..plan(a, seed) });
    if again.hash != outcome.hash {
        bail!("seed {seed} ran differently the second time: {:x} and {:x}", outcome.hash, again.hash);
    }
    verdict(a, &outcome)
}

fn many(a: &Arguments) -> Result<()> {
    let batch = Batch { seeds: a.from..a.from.saturating_add(a.seeds), threads: a.threads, twice: a.twice };
    let shown = std::io::stderr().is_terminal();
    let progress = |done: u64| {
        if shown {
            eprint!("\r{done} of {} seeds", a.seeds);
        }
    };
    let BatchResult { tally, found } = batch.run(&|seed| plan(a, seed), &progress);
    if shown {
        eprint!("\r\x1b[K");
    }
    match found {
        Some(Found::Violation(outcome)) => {
            report(a, &outcome);
            return verdict(a, &outcome);
        }
        Some(Found::Unequal { seed, hashes: [first, second] }) => {
            bail!("seed {seed} ran differently the second time: {first:x} and {second:x}")
        }
        None => {}
    }
    if a.json {
        println!("{}", tally.json());
    } else {
        println!("{}", tally.text());
        println!("no violation{}", if a.twice { ", all traces equal" } else { "" });
    }
    if let Some(mutant) = a.mutant {
        bail!("the deliberate fault {mutant} was not found in {} seeds", a.seeds);
    }
    let unmade = tally.unmade();
    if tally.seeds() >= SEEDS_FOR_ALL_KINDS && !unmade.is_empty() {
        bail!("faults that were never made: {}", unmade.join(", "));
    }
    Ok(())
}

fn hunt(a: &Arguments) -> Result<()> {
    let mut missed = Vec::new();
    if !a.json {
        println!("{}", Hunt::head());
    }
    for mutant in Mutant::ALL {
        let hunt = Hunt::run(mutant, a.seeds, a.events, a.threads);
        if a.json {
            println!("{}", hunt.json())
        } else {
            println!("{}", hunt.line())
        }
        if hunt.found.is_none() {
            missed.push(mutant.name());
        }
    }
    if missed.is_empty() { Ok(()) } else { bail!("not found in {} seeds: {}", a.seeds, missed.join(", ")) }
}

fn report(a: &Arguments, o: &Outcome) {
    let violation = o.violation.as_ref();
    if a.json {
        let mut json = o.counts.json();
        let of_run = serde_json::json!({
            "seed": o.seed, "steps": o.steps, "simulated_us": o.simulated_us, "hash": format!("{:016x}", o.hash),
            "mutant": a.mutant.map(|m| m.name()),
            "violation": violation.map(|v| v.invariant), "detail": violation.map(|v| &v.detail),
        });
        json.extend(of_run.as_object().cloned().unwrap_or_default());
        println!("{}", serde_json::Value::from(json));
    } else {
        println!(
            "seed {}: {} steps, {} replies, {} activations, hash {:016x}",
            o.seed, o.steps, o.counts.served, o.counts.activations, o.hash
        );
    }
}

fn verdict(a: &Arguments, o: &Outcome) -> Result<()> {
    let Some(v) = &o.violation else { return Ok(()) };
    let mutant = a.mutant.map(|m| format!(" --mutant {m}")).unwrap_or_default();
    let replay = format!("escape-sim --seed {} --events {}{mutant} --trace", o.seed, a.events);
    if a.mutant.is_some() {
        println!("found: {}: {} (replay: {replay})", v.invariant, v.detail);
        return Ok(());
    }
    bail!("{}: {}\nreplay with: {replay}", v.invariant, v.detail)
}
