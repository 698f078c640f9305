//! What an exploration found.

use stateright::Model;
use std::time::Duration;

/// A promise was broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Which.
    pub promise: &'static str,
    /// What happened.
    pub detail: String,
}

/// A model whose counterexamples can be read.
pub trait Explored: Model {
    /// The promise that is broken in a state.
    fn broken(state: &Self::State) -> Option<Broken>;

    /// Steps before the exploration begins.
    fn prologue(&self) -> &[(String, Vec<String>)] {
        &[]
    }

    /// A step for people, and what was said in it.
    fn narrate(&self, from: &Self::State, action: Self::Action) -> (String, Vec<String>);
}

/// A counterexample.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The promise and what happened.
    pub broken: Broken,
    /// The shortest way there that was found: each step, and what was said in it.
    pub steps: Vec<(String, Vec<String>)>,
    /// Of these, steps before the exploration began: they are told only if the promise was broken in them.
    pub prologue: usize,
}

/// How an exploration ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// The configuration.
    pub config: &'static str,
    /// The deliberate fault.
    pub mutant: Option<&'static str>,
    /// States that differ.
    pub unique: usize,
    /// States looked at, those that were known counted too.
    pub generated: usize,
    /// Most steps from the beginning.
    pub depth: usize,
    /// All states within the bounds were seen.
    pub complete: bool,
    /// Wall time.
    pub took: Duration,
    /// A broken promise.
    pub found: Option<Counterexample>,
}

impl Report {
    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let found = self.found.as_ref();
        serde_json::json!({
            "config": self.config, "mutant": self.mutant, "unique_states": self.unique, "generated": self.generated,
            "depth": self.depth, "complete": self.complete, "seconds": self.took.as_secs_f64(),
            "violation": found.map(|f| f.broken.promise), "detail": found.map(|f| &f.broken.detail),
            "steps": found.map(|f| f.steps.iter().map(|(step, _)| step).collect::<Vec<_>>()),
        })
    }
}
