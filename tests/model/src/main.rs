//! `escape-model`: configurations in, states and counterexamples out.
#![forbid(unsafe_code)]

use anyhow::{Result, anyhow, bail};
use clap::Parser;
use escape_engine::Mutant;
use escape_model::explore::Limits;
use escape_model::report::{Counterexample, Report};
use escape_model::suite::{configs, faults, hunt, run};
use std::io::IsTerminal;
use std::process::ExitCode;

/// Explores the production machines of a cell, in every order of events within bounds.
#[derive(Debug, Parser)]
#[command(name = "escape-model", version)]
struct Arguments {
    /// The configuration, or `all`.
    #[arg(long, default_value = "all")]
    config: String,
    /// Break the machines on purpose: a fault that must be found, or `all`.
    #[arg(long)]
    mutant: Option<String>,
    /// States looked at per exploration, known ones counted too .
    #[arg(long, default_value_t = 5_000_000)]
    states_max: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Say in a counterexample what every machine said.
    #[arg(long)]
    verbose: bool,
    /// Report as JSON, a line for each exploration.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let a = Arguments::parse();
    let chosen: Vec<&str> = configs().into_iter().filter(|c| a.config == "all" || a.config == *c).collect();
    let chosen_faults = match a.mutant.as_deref() {
        None => Vec::new(),
        Some("all") => faults(),
        Some(name) => faults().into_iter().filter(|fault| fault.name() == name).collect(),
    };
    if chosen.is_empty() || (a.mutant.is_some() && chosen_faults.is_empty()) {
        let faults: Vec<_> = faults().into_iter().map(Mutant::name).collect();
        eprintln!("configurations: all, {}\nmutants: all, {}", configs().join(", "), faults.join(", "));
        return ExitCode::from(2);
    }
    let done = if a.mutant.is_some() { find_all(&a, &chosen, &chosen_faults) } else { check_all(&a, &chosen) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn limits(a: &Arguments) -> Limits {
    let progress = std::io::stderr().is_terminal() && !a.json;
    Limits { generated_max: a.states_max, threads: a.threads.max(1), progress }
}

fn check_all(a: &Arguments, chosen: &[&str]) -> Result<()> {
    if !a.json {
        println!("{:<14} {:>12} {:>12} {:>6} {:>8}", "configuration", "states", "looked at", "depth", "seconds");
    }
    let mut unique = 0;
    for config in chosen {
        let report = run(config, None, limits(a)).map_err(|e| anyhow!(e))?;
        unique += report.unique;
        if a.json {
            println!("{}", report.json());
        } else {
            println!("{}", line(&report));
        }
        if let Some(found) = &report.found {
            if !a.json {
                print_steps(a, found);
            }
            bail!("{config}: {}: {}", found.broken.promise, found.broken.detail);
        }
    }
    if !a.json {
        println!("{unique} states without a broken promise");
    }
    Ok(())
}

fn line(r: &Report) -> String {
    let whole = match (r.complete, &r.found) {
        (_, Some(_)) => "a promise is broken",
        (true, None) => "all within the bounds",
        (false, None) => "up to the limit",
    };
    let (unique, generated, depth, seconds) = (r.unique, r.generated, r.depth, r.took.as_secs_f64());
    format!("{:<14} {unique:>12} {generated:>12} {depth:>6} {seconds:>8.1}  {whole}", r.config)
}

fn find_all(a: &Arguments, chosen: &[&str], faults: &[Mutant]) -> Result<()> {
    if !a.json {
        println!("{:<26} {:<14} {:>5} {:>10} {:>8}  promise", "mutant", "configuration", "steps", "states", "seconds");
    }
    let mut missed = Vec::new();
    for fault in faults {
        let reports = hunt(*fault, chosen, limits(a)).map_err(|e| anyhow!(e))?;
        let name = fault.name();
        let Some((report, found)) = reports.last().and_then(|r| r.found.as_ref().map(|f| (r, f))) else {
            missed.push(name);
            continue;
        };
        if a.json {
            println!("{}", report.json());
            continue;
        }
        let (config, unique, seconds) = (report.config, report.unique, report.took.as_secs_f64());
        let steps = found.steps.len();
        println!("{name:<26} {config:<14} {steps:>5} {unique:>10} {seconds:>8.1}  {}", found.broken.promise);
        if faults.len() == 1 {
            print_steps(a, found);
        }
    }
    if !missed.is_empty() {
        bail!("not found: {}", missed.join(", "));
    }
    Ok(())
}

fn print_steps(a: &Arguments, found: &Counterexample) {
    for (n, (step, said)) in (1..).zip(&found.steps) {
        println!("{n:>3}. {step}");
        for line in said.iter().filter(|line| a.verbose || line.contains(" → ")) {
            println!("       {line}");
        }
    }
    println!("     {}: {}", found.broken.promise, found.broken.detail);
}
