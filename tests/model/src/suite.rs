//! What is explored: configurations, and the faults that each must find.

use crate::cell::{Bounds, CellModel};
use crate::explore::{Limits, explore};
use crate::moves::{Flaw, MovesModel};
use crate::report::Report;
use escape_engine::Mutant;

/// A deliberate fault, of the machines or of the design of moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In the production machines.
    Machine(Mutant),
    /// In the design of moves.
    Move(Flaw),
}

/// Name of the abstract model of moves among the configurations.
pub const MOVES: &str = "moves";

impl Fault {
    /// All of them that have a place in the models: nothing is quarantined in them.
    pub fn all() -> Vec<Self> {
        let machines = Mutant::ALL.into_iter().filter(|m| *m != Mutant::QuarantineForgotten).map(Self::Machine);
        machines.chain(Flaw::ALL.map(Self::Move)).collect()
    }

    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine(mutant) => mutant.name(),
            Self::Move(flaw) => flaw.name(),
        }
    }

    /// The configuration that finds it soonest.
    pub const fn found_in(self) -> &'static str {
        match self {
            Self::Machine(Mutant::AckBeforeApply | Mutant::OldEpoch | Mutant::FrozenAtCas) => "zombie",
            Self::Machine(Mutant::StandbyAmnesia | Mutant::OwnerAmnesia) => "restart",
            Self::Machine(Mutant::PromoteAmnesiac) => "amnesia",
            Self::Machine(Mutant::ReuseSlot | Mutant::OldSetAlone) => "slots",
            Self::Machine(Mutant::FlipBeforeGate) => "gate",
            Self::Machine(Mutant::EpochReused) => "orchestrator",
            Self::Machine(Mutant::ClaimWithoutMemory) => "forgotten",
            Self::Machine(Mutant::LeaseFreedEarly) => "leases",
            Self::Machine(_) => "kill",
            Self::Move(_) => MOVES,
        }
    }

    /// The fault of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|f| f.name() == name)
    }
}

/// Names of all configurations.
pub fn configs() -> Vec<&'static str> {
    Bounds::ALL.iter().map(|b| b.name).chain([MOVES]).collect()
}

/// Explores a configuration, with or without a deliberate fault. `None`: the fault has no place in it.
///
/// # Errors
/// The cell does not become whole before the exploration: for people.
pub fn run(config: &str, fault: Option<Fault>, limits: Limits) -> Result<Option<Report>, String> {
    let name = fault.map(Fault::name);
    match (Bounds::named(config), fault) {
        (Some(bounds), None | Some(Fault::Machine(_))) => {
            let mutant = fault.and_then(|f| if let Fault::Machine(m) = f { Some(m) } else { None });
            let model = CellModel::new(bounds, mutant)?;
            Ok(Some(explore(model, bounds.name, name, limits)))
        }
        (None, None | Some(Fault::Move(_))) if config == MOVES => {
            let flaw = fault.and_then(|f| if let Fault::Move(m) = f { Some(m) } else { None });
            Ok(Some(explore(MovesModel { flaw }, MOVES, name, limits)))
        }
        _ => Ok(None),
    }
}

/// States looked at by default: enough for small configurations to be seen whole.
pub fn looked_at(config: &str) -> usize {
    if config == MOVES { 20_000_000 } else { 5_000_000 }
}

/// Looks for a deliberate fault in configurations, the likeliest first, one after the other; the report of the one that finds it, or of
/// all that do not.
///
/// # Errors
/// As [`run`].
pub fn hunt(fault: Fault, configs: &[&str], limits: Limits) -> Result<Vec<Report>, String> {
    let mut reports = Vec::new();
    let (first, others): (Vec<&str>, Vec<&str>) = configs.iter().partition(|c| **c == fault.found_in());
    for config in first.into_iter().chain(others) {
        if let Some(report) = run(config, Some(fault), limits)? {
            if report.found.is_some() {
                return Ok(vec![report]);
            }
            reports.push(report);
        }
    }
    Ok(reports)
}
