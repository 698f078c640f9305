//! What the edge is told at its start.

use crate::Mutant;

/// Settings of the edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeConfig {
    /// Most flows steered one by one; further ones are refused and counted.
    pub flows_max: usize,
    /// Deliberate fault.
    pub broken: Option<Mutant>,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self { flows_max: 262_144, broken: None }
    }
}
