//! `escape-sim`: seeds in, verdicts out.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::Parser;
use escape_engine::Mutant;
use escape_sim::{Outcome, Plan, run};
use std::process::ExitCode;

/// Simulates whole cells on the production machines and checks the invariants after every step.
#[derive(Debug, Parser)]
#[command(name = "escape-sim", version)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this seed only, twice, and compare.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every step (with --seed).
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Steps of each run before all faults end.
    #[arg(long, default_value_t = 2000)]
    events: u64,
    /// Break the machines on purpose, and stop at the first seed that finds it.
    #[arg(long)]
    mutant: Option<Mutant>,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let a = Arguments::parse();
    let result = match a.seed {
        Some(seed) => one(&a, seed),
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
    let (mut steps, mut served, mut activations, mut claims, mut again, mut lost, mut gave_up) = (0, 0, 0, 0, 0, 0, 0);
    let (mut quarantined, mut poisonings) = (0, 0);
    for seed in a.from..a.from + a.seeds {
        let outcome = run(plan(a, seed));
        steps += outcome.steps;
        served += outcome.served;
        activations += outcome.activations;
        claims += outcome.claims;
        again += outcome.leases_again;
        quarantined += outcome.quarantined;
        poisonings += outcome.poisonings;
        lost += outcome.lost_groups;
        gave_up += outcome.given_up;
        if outcome.violation.is_some() {
            report(a, &outcome);
            return verdict(a, &outcome);
        }
    }
    if a.json {
        println!(
            "{}",
            serde_json::json!({
                "seeds": a.seeds, "steps": steps, "served": served, "activations": activations,
                "claims": claims, "leases_again": again, "quarantined": quarantined, "poisonings": poisonings, "lost_groups": lost, "given_up": gave_up, "violations": 0,
            })
        );
    } else {
        println!(
            "{} seeds, {steps} steps, {served} replies, {activations} activations, {claims} groups claimed, \
             {lost} legally lost, {again} leases given again, \
             {poisonings} requests killed a guest, {quarantined} slices given up, \
             {gave_up} sessions given up: no violation",
            a.seeds
        );
    }
    if let Some(mutant) = a.mutant {
        bail!("the deliberate fault {mutant} was not found in {} seeds", a.seeds);
    }
    Ok(())
}

fn report(a: &Arguments, o: &Outcome) {
    let violation = o.violation.as_ref();
    if a.json {
        println!(
            "{}",
            serde_json::json!({
                "seed": o.seed, "steps": o.steps, "simulated_us": o.simulated_us, "hash": format!("{:016x}", o.hash),
                "served": o.served, "activations": o.activations, "claims": o.claims, "leases_again": o.leases_again,
                "quarantined": o.quarantined, "poisonings": o.poisonings,
                "lost_groups": o.lost_groups,
                "given_up": o.given_up, "mutant": a.mutant.map(|m| m.name()),
                "violation": violation.map(|v| v.invariant), "detail": violation.map(|v| &v.detail),
            })
        );
    } else {
        println!(
            "seed {}: {} steps, {} replies, {} activations, hash {:016x}",
            o.seed, o.steps, o.served, o.activations, o.hash
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
