//! The figures of `escape bench throughput`.

use super::throughput::ThroughputPlan;
use serde::Serialize;
use std::fmt::Write;

/// Goal for achieved ÷ offered at half of the most that `none` answers.
pub const GOAL_ACHIEVED: f64 = 0.99;
/// Goal for the most that `slice` answers, against `none`.
pub const GOAL_SATURATION: f64 = 0.7;

/// Processor time per answered request, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CpuPerRequest {
    /// The owner's process, its guest included.
    pub owner: f64,
    /// The standby's.
    pub standby: f64,
    /// The load generator's, per request sent.
    pub client: f64,
}

/// One load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Requests per second that were due.
    pub offered_rps: f64,
    /// Requests per second that were answered.
    pub achieved_rps: f64,
    /// Processor time of each.
    pub cpu_us_per_request: CpuPerRequest,
}

/// Loads of one kind, one per round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series {
    pub(super) loads: Vec<Load>,
}

impl Series {
    /// The most that was answered in any round.
    pub(super) fn best_rps(&self) -> f64 {
        self.loads.iter().map(|load| load.achieved_rps).fold(0.0, f64::max)
    }

    /// Each figure's median.
    fn median(&self) -> Side {
        let of = |figure: fn(&Load) -> f64| {
            let mut all: Vec<f64> = self.loads.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(0.0)
        };
        let (offered, achieved) = (of(|load| load.offered_rps), of(|load| load.achieved_rps));
        Side {
            offered_rps: offered.round(),
            achieved_rps: achieved.round(),
            achieved_over_offered: thousandths(of(|load| load.achieved_rps / load.offered_rps)),
            cpu_us_per_request: CpuPerRequest {
                owner: tenths(of(|load| load.cpu_us_per_request.owner)),
                standby: tenths(of(|load| load.cpu_us_per_request.standby)),
                client: tenths(of(|load| load.cpu_us_per_request.client)),
            },
        }
    }
}

/// One kind at one load, medians over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Requests per second that were due.
    pub offered_rps: f64,
    /// Requests per second that were answered.
    pub achieved_rps: f64,
    /// The one over the other.
    pub achieved_over_offered: f64,
    /// Processor time of each.
    pub cpu_us_per_request: CpuPerRequest,
}

/// Both kinds at one load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Without replication.
    pub none: Side,
    /// With it.
    pub slice: Side,
}

/// The whole report.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ThroughputReport {
    /// Sessions.
    pub sessions: u32,
    /// Rounds.
    pub rounds: usize,
    /// At half of the most that `none` answered.
    pub half: Pair,
    /// At more than is answered.
    pub saturated: Pair,
    /// Most answered with slices ÷ most answered without.
    pub saturation_ratio: f64,
    /// Groups handed over while it was measured: failovers that nobody ordered. Must be 0.
    pub handovers: usize,
    /// Both goals.
    pub goal_met: bool,
}

impl ThroughputReport {
    pub(super) fn new(
        plan: &ThroughputPlan,
        none: (Series, Series),
        slice: (Series, Series),
        handovers: usize,
    ) -> Self {
        let saturated = Pair { none: none.0.median(), slice: slice.0.median() };
        let half = Pair { none: none.1.median(), slice: slice.1.median() };
        let saturation_ratio = thousandths(slice.0.best_rps() / none.0.best_rps().max(1.0));
        let goal_met = half.slice.achieved_over_offered >= GOAL_ACHIEVED && saturation_ratio >= GOAL_SATURATION;
        Self { sessions: plan.sessions, rounds: plan.rounds, half, saturated, saturation_ratio, handovers, goal_met }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} sessions, medians of {} rounds; µs of processor per request\n  {:<16} {:>9} {:>9} {:>7} {:>7} {:>8} {:>7}\n",
            self.sessions, self.rounds, "", "offered/s", "answered", "share", "owner", "standby", "client"
        );
        for (name, side) in [
            ("half, none", &self.half.none),
            ("half, slice", &self.half.slice),
            ("saturated, none", &self.saturated.none),
            ("saturated, slice", &self.saturated.slice),
        ] {
            let cpu = &side.cpu_us_per_request;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {name:<16} {:>9.0} {:>9.0} {:>7.3} {:>7.1} {:>8.1} {:>7.1}",
                side.offered_rps, side.achieved_rps, side.achieved_over_offered, cpu.owner, cpu.standby, cpu.client
            );
        }
        let _ = writeln!(
            text,
            "at half {:.3} answered (goal {GOAL_ACHIEVED}), at saturation {:.2} of none (goal {GOAL_SATURATION}): {}; groups \
             handed over: {}",
            self.half.slice.achieved_over_offered,
            self.saturation_ratio,
            if self.goal_met { "met" } else { "missed" },
            self.handovers
        );
        text
    }
}

fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn series(achieved: &[f64], offered_rps: f64) -> Series {
        let load =
            |&achieved_rps: &f64| Load { offered_rps, achieved_rps, cpu_us_per_request: CpuPerRequest::default() };
        Series { loads: achieved.iter().map(load).collect() }
    }

    #[test]
    fn the_goal_needs_both_figures() {
        let plan = ThroughputPlan { sessions: 10, rounds: 3, time: Duration::from_secs(1) };
        let none = (series(&[9_000.0, 10_000.0, 9_500.0], 13_000.0), series(&[5_000.0; 3], 5_000.0));
        let report = |saturated: f64, half: f64| {
            let slice = (series(&[saturated; 3], 12_000.0), series(&[half, 4_900.0, half], 5_000.0));
            ThroughputReport::new(&plan, none.clone(), slice, 0)
        };
        let good = report(7_100.0, 4_980.0);
        assert_eq!((good.saturation_ratio, good.half.slice.achieved_over_offered), (0.71, 0.996));
        assert_eq!(good.saturated.none.achieved_rps, 9_500.0);
        assert!(good.goal_met && !report(6_900.0, 4_980.0).goal_met && !report(7_100.0, 4_940.0).goal_met);
    }
}
