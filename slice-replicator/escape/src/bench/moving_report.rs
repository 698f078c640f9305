//! The figures of `escape bench move`.

use super::percentiles::Percentiles;
use serde::Serialize;

/// Goals: the gap's p50 over the median compare-and-swap, and its p99 over its p99, microseconds.
pub const GOAL_OVER_CAS_US: Goal = Goal { p50: 300.0, p99: 2_000.0 };

/// What a gap may be longer than the compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// At the median, microseconds.
    pub p50: f64,
    /// At the 99th percentile, microseconds.
    pub p99: f64,
}

/// One move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The client's longest wait around it, microseconds.
    pub gap_us: u64,
    /// How long the slice was at rest at its former owner, microseconds.
    pub frozen_us: u64,
    /// How long of that the store took, microseconds.
    pub recorded_us: u64,
}

/// The whole report; all in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MovingReport {
    /// Moves.
    pub moves: usize,
    /// Any request, most of them far from a move.
    pub request_us: Percentiles,
    /// The client's longest wait around a move.
    pub gap_us: Percentiles,
    /// The slice at rest at its former owner.
    pub frozen_us: Percentiles,
    /// The store's part of that: the compare-and-swap.
    pub recorded_us: Percentiles,
    /// What is allowed on top of it.
    pub goal_over_recorded_us: Goal,
    /// Both goals are met.
    pub goal_met: bool,
}

impl MovingReport {
    pub(super) fn new(moves: Vec<Move>, mut requests_us: Vec<u64>) -> Self {
        let of = |pick: fn(&Move) -> u64| {
            let mut values: Vec<u64> = moves.iter().map(pick).collect();
            Percentiles::of_ns(&mut values, 1.0)
        };
        let (gap_us, frozen_us, recorded_us) = (of(|m| m.gap_us), of(|m| m.frozen_us), of(|m| m.recorded_us));
        let goal = GOAL_OVER_CAS_US;
        let goal_met = gap_us.p50 <= recorded_us.p50 + goal.p50 && gap_us.p99 <= recorded_us.p99 + goal.p99;
        Self {
            moves: moves.len(),
            request_us: Percentiles::of_ns(&mut requests_us, 1.0),
            gap_us,
            frozen_us,
            recorded_us,
            goal_over_recorded_us: goal,
            goal_met,
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let line = |what: &str, p: &Percentiles| format!("  {what:<44} {:>9.0} {:>9.0}\n", p.p50, p.p99);
        format!(
            "{} moves of a live session; microseconds                p50       p99\n{}{}{}{}goal: gap at most the store's time + {:.0} (p50), + {:.0} (p99): {}\n",
            self.moves,
            line("a request, any", &self.request_us),
            line("longest wait of the client around a move", &self.gap_us),
            line("slice at rest at its former owner", &self.frozen_us),
            line("of that, the store (compare-and-swap)", &self.recorded_us),
            self.goal_over_recorded_us.p50,
            self.goal_over_recorded_us.p99,
            if self.goal_met { "met" } else { "missed" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_judged_by_the_store_of_the_same_run() {
        let of = |gap_us| Move { gap_us, frozen_us: 1_100, recorded_us: 1_000 };
        assert!(MovingReport::new(vec![of(1_300); 100], vec![100]).goal_met);
        assert!(!MovingReport::new(vec![of(1_301); 100], vec![100]).goal_met);
        let mut tail = vec![of(1_200); 97];
        tail.extend([of(3_001); 3]);
        assert!(!MovingReport::new(tail, vec![100]).goal_met, "the tail counts too");
    }
}
