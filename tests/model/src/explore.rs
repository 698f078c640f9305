//! One exploration, breadth first: the first counterexample is a shortest one.

use crate::report::{Counterexample, Explored, Report};
use stateright::{Checker, HasDiscoveries};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Limits of an exploration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// States looked at, known ones counted too; a few more may be.
    pub generated_max: usize,
    /// Threads.
    pub threads: usize,
    /// Tell on standard error how far it is, every few seconds.
    pub progress: bool,
}

/// Explores a model to its end, to the limit, or to the first broken promise.
pub fn explore<M>(model: M, config: &'static str, mutant: Option<&'static str>, limits: Limits) -> Report
where
    M: Explored + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let begun = Instant::now();
    let checker = model.clone().checker().threads(limits.threads).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.target_state_count(limits.generated_max).spawn_bfs();
    let mut told = begun;
    while !checker.is_done() {
        std::thread::sleep(Duration::from_millis(if begun.elapsed().as_millis() < 500 { 5 } else { 50 }));
        if limits.progress && told.elapsed() >= Duration::from_secs(5) {
            told = Instant::now();
            let (unique, depth) = (checker.unique_state_count(), checker.max_depth());
            eprintln!("{config}: {unique} states, depth {depth}, {} s", begun.elapsed().as_secs());
        }
    }
    let checker = checker.join();
    let took = begun.elapsed();
    let paths = checker.discoveries().into_values();
    let shortest = paths.min_by_key(|path| path.clone().into_vec().len());
    let broken = shortest.is_some();
    let found = shortest.and_then(|path| {
        let states = path.into_vec();
        let broken = M::broken(&states.last()?.0)?;
        let steps = states.iter().filter_map(|(state, action)| Some(model.narrate(state, action.clone()?)));
        let steps: Vec<_> = steps.collect();
        Some(match model.prologue() {
            told if steps.is_empty() => Counterexample { broken, steps: told.to_vec(), prologue: told.len() },
            _ => Counterexample { broken, steps, prologue: 0 },
        })
    });
    Report {
        config,
        mutant,
        unique: checker.unique_state_count(),
        generated: checker.state_count(),
        depth: checker.max_depth(),
        complete: !broken && checker.state_count() < limits.generated_max,
        took,
        found,
    }
}
