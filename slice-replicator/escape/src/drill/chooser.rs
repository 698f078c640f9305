//! Finds the places of a round's faults.

use super::cell_trait::Cell;
use super::error::DrillError;
use super::injury::{Cut, Injury, Party};
use super::place::Place;
use super::strike::{Direction, FaultKind, Strike};
use crate::load::Seeded;

/// Chooses nodes, at random where the file leaves it open, and remembers the latest one.
#[derive(Debug)]
pub struct Chooser {
    random: Seeded,
    latest: Option<u16>,
}

/// What a round knows when it chooses.
struct Choice<'a> {
    cell: &'a mut dyn Cell,
    serving: &'a [u16],
    /// Nodes chosen in this round, in order.
    chosen: Vec<u16>,
}

impl Chooser {
    /// With the sequence of this seed.
    pub fn new(seed: u64) -> Self {
        // Its own sequence, apart from the sessions'.
        Self { random: Seeded::new(seed, u64::MAX), latest: None }
    }

    /// A random number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// What the faults of a round come to; `serving` are the nodes that serve sessions now.
    pub fn injuries(
        &mut self,
        strikes: &[Strike],
        cell: &mut dyn Cell,
        serving: &[u16],
    ) -> Result<Vec<Injury>, DrillError> {
        let mut choice = Choice { cell, serving, chosen: Vec::new() };
        strikes.iter().map(|strike| self.injury(strike, &mut choice)).collect()
    }

    fn injury(&mut self, strike: &Strike, choice: &mut Choice<'_>) -> Result<Injury, DrillError> {
        if strike.kind == FaultKind::None {
            return Ok(Injury::Nothing);
        }
        let party = self.party(strike.node, choice)?;
        let injury = match (strike.kind, strike.kind.of_node(), party) {
            (FaultKind::Cut, ..) => Injury::Cut(cut(party, self.party(strike.peer, choice)?, strike.direction)),
            (_, Some(fault), Party::Node(node)) => Injury::Node { node, fault },
            (FaultKind::Kill, _, Party::Orchestrator) => Injury::OrchestratorKilled(strike.at),
            (FaultKind::Stop, _, Party::Orchestrator) => Injury::OrchestratorStopped,
            // Refused when the file is read.
            _ => return Err(DrillError::NoPlace { place: strike.node }),
        };
        Ok(injury)
    }

    fn party(&mut self, place: Place, choice: &mut Choice<'_>) -> Result<Party, DrillError> {
        let node = match place {
            Place::Orchestrator => return Ok(Party::Orchestrator),
            Place::Node(node) => Some(node),
            Place::Serving => self.one_of(choice.serving, &choice.chosen),
            Place::Standby => {
                let owner = choice.chosen.first().copied().or_else(|| self.one_of(choice.serving, &[]));
                let owner = owner.ok_or(DrillError::NoPlace { place })?;
                choice.cell.standbys_of(owner)?.into_iter().find(|node| !choice.chosen.contains(node))
            }
            Place::Next => Some(self.latest.map_or(0, |latest| (latest + 1) % choice.cell.nodes().max(1))),
        };
        let node = node.ok_or(DrillError::NoPlace { place })?;
        choice.chosen.push(node);
        self.latest = Some(node);
        Ok(Party::Node(node))
    }

    fn one_of(&mut self, nodes: &[u16], but: &[u16]) -> Option<u16> {
        let left: Vec<u16> = nodes.iter().copied().filter(|node| !but.contains(node)).collect();
        left.get(self.random.below(left.len() as u64) as usize).copied()
    }
}

const fn cut(node: Party, peer: Party, direction: Direction) -> Cut {
    match direction {
        Direction::Both => Cut { from: node, to: peer, both: true },
        Direction::ToPeer => Cut { from: node, to: peer, both: false },
        Direction::FromPeer => Cut { from: peer, to: node, both: false },
    }
}
