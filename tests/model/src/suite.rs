//! What is explored: configurations, and the faults that they must find.

use crate::cell::{Bounds, CellModel};
use crate::explore::{Limits, explore};
use crate::report::Report;
use escape_engine::Mutant;

/// The deliberate faults that have a place in the model: nothing is quarantined in it.
pub fn faults() -> Vec<Mutant> {
    Mutant::ALL.into_iter().filter(|m| *m != Mutant::QuarantineForgotten).collect()
}

/// The configuration that finds a fault soonest.
pub const fn found_in(fault: Mutant) -> &'static str {
    match fault {
        Mutant::AckBeforeApply | Mutant::OldEpoch | Mutant::FrozenAtCas => "zombie",
        Mutant::StandbyAmnesia | Mutant::OwnerAmnesia => "restart",
        Mutant::PromoteAmnesiac => "amnesia",
        Mutant::ReuseSlot | Mutant::OldSetAlone => "slots",
        Mutant::FlipBeforeGate => "gate",
        Mutant::EpochReused => "orchestrator",
        Mutant::ClaimWithoutMemory => "forgotten",
        Mutant::LeaseFreedEarly => "leases",
        Mutant::MoveWithoutDrain => "moves-back",
        Mutant::MovesIgnored => "moves",
        _ => "kill",
    }
}

/// Names of all configurations.
pub fn configs() -> Vec<&'static str> {
    Bounds::ALL.iter().map(|b| b.name).collect()
}

/// Explores a configuration, with or without a deliberate fault.
///
/// # Errors
/// There is no such configuration, or the cell does not become whole before the exploration: for people.
pub fn run(config: &str, fault: Option<Mutant>, limits: Limits) -> Result<Report, String> {
    let bounds = Bounds::named(config).ok_or_else(|| format!("no configuration is called {config:?}"))?;
    let model = CellModel::new(bounds, fault)?;
    Ok(explore(model, bounds.name, fault.map(Mutant::name), limits))
}

/// Looks for a deliberate fault in configurations, the likeliest first, one after the other; the report of the one that finds it, or of
/// all that do not.
///
/// # Errors
/// As [`run`].
pub fn hunt(fault: Mutant, configs: &[&str], limits: Limits) -> Result<Vec<Report>, String> {
    let mut reports = Vec::new();
    let (first, others): (Vec<&str>, Vec<&str>) = configs.iter().partition(|c| **c == found_in(fault));
    for config in first.into_iter().chain(others) {
        let report = run(config, Some(fault), limits)?;
        if report.found.is_some() {
            return Ok(vec![report]);
        }
        reports.push(report);
    }
    Ok(reports)
}
