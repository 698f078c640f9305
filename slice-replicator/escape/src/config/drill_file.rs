//! The drill file: a cell, a load, faults in sequence, and what must hold.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::line_index::PathStep;
use super::problem::{self, ConfigErrors};
use super::rules::Rules;
use super::sections::Quotas;
use crate::cell::{CellPlan, GROUPS_PER_NODE};
use crate::drill::{DrillPlan, FaultKind, Must, Pace, Place, Strike, Then};

/// Longest time that a fault may last, milliseconds.
const LASTS_MS_MAX: u64 = 86_400_000;
/// Most faults of a drill, repetitions included.
const FAULTS_MAX: u64 = 10_000;
/// Longest title, bytes.
const TITLE_MAX: usize = 200;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillFile {
    /// What the drill shows.
    pub title: String,
    /// Seed of requests, nodes and moments; 0 = from the clock.
    pub seed: u64,
    /// How often the sequence of faults is made on a cell.
    pub repeat: u32,
    /// How many cells it is held on, one after the other.
    pub cells: u32,
    /// The cell.
    pub cell: DrillCell,
    /// The clients.
    pub load: DrillLoad,
    /// How long the drill waits where nothing else says so.
    pub pace: DrillPace,
    /// What must hold.
    pub must: Must,
    /// The faults in sequence.
    pub faults: Vec<Strike>,
}

/// `[cell]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillCell {
    /// Nodes.
    pub nodes: u16,
    /// Groups that a node gets when it joins.
    pub groups_per_node: u32,
    /// Crashes of one slice per minute before it is quarantined: guests that the drill crashes count too.
    pub slice_crashes_per_minute: u32,
}

/// `[load]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillLoad {
    /// Client sessions.
    pub sessions: u32,
    /// Requests per second and session.
    pub requests_per_second: f64,
    /// How many of 100 sessions are byte streams.
    pub stream_percent: u8,
    /// Short sessions per second beside the others.
    pub churn_per_second: f64,
}

/// `[pace]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillPace {
    /// Load before the first fault, milliseconds.
    pub warm_up_ms: u64,
    /// How long a healed node is watched for what it may still send, milliseconds.
    pub watch_ms: u64,
    /// Load after each round, once all is well again, milliseconds.
    pub cool_down_ms: u64,
}

impl Default for DrillFile {
    fn default() -> Self {
        Self {
            title: String::new(),
            seed: 0,
            repeat: 1,
            cells: 1,
            cell: DrillCell::default(),
            load: DrillLoad::default(),
            pace: DrillPace::default(),
            must: Must::default(),
            faults: vec![Strike::default()],
        }
    }
}

impl Default for DrillCell {
    fn default() -> Self {
        Self {
            nodes: 3,
            groups_per_node: GROUPS_PER_NODE,
            slice_crashes_per_minute: Quotas::default().slice_crashes_per_minute,
        }
    }
}

impl Default for DrillLoad {
    fn default() -> Self {
        Self { sessions: 200, requests_per_second: 5.0, stream_percent: 10, churn_per_second: 0.0 }
    }
}

impl Default for DrillPace {
    fn default() -> Self {
        Self { warm_up_ms: 1_000, watch_ms: 1_000, cool_down_ms: 1_000 }
    }
}

impl DrillFile {
    /// Reads and checks a file.
    pub fn read(file: &Path) -> Result<Self, ConfigErrors> {
        Self::parse(file, &problem::read(file)?)
    }

    /// Checks a text; `file` is only for the messages. Syntax and type errors come alone, broken rules all at once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let parsed: Self = problem::deserialize(file, text)?;
        let mut rules = Rules::new(file, text);
        parsed.check(&mut rules);
        for (index, strike) in parsed.faults.iter().enumerate() {
            parsed.check_strike(index, strike, &mut rules);
        }
        rules.end()?;
        Ok(parsed)
    }

    /// The drill, with faults that are given a time lasting at most `longest`.
    pub fn plan(&self, seed: u64, longest: Option<Duration>) -> DrillPlan {
        let longest_ms = longest.map_or(u64::MAX, |longest| u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
        let shortened = |strike: &Strike| Strike { lasts_ms: strike.lasts_ms.min(longest_ms), ..*strike };
        let sequence: Vec<Strike> = self.faults.iter().map(shortened).collect();
        DrillPlan {
            generators: 1,
            sessions: self.load.sessions as usize,
            requests_per_second: self.load.requests_per_second,
            churn_per_second: self.load.churn_per_second,
            stream_percent: self.load.stream_percent,
            seed,
            rounds: DrillPlan::rounds_of(&sequence, self.repeat),
            pace: Pace {
                warm_up: Duration::from_millis(self.pace.warm_up_ms),
                watch: Duration::from_millis(self.pace.watch_ms),
                cool_down: Duration::from_millis(self.pace.cool_down_ms),
            },
            must: self.must,
        }
    }

    /// The cell that it wants.
    pub fn cell_plan(&self) -> CellPlan {
        CellPlan {
            nodes: self.cell.nodes,
            groups_per_node: self.cell.groups_per_node,
            quotas: Quotas { slice_crashes_per_minute: self.cell.slice_crashes_per_minute, ..Quotas::default() },
            ..CellPlan::new(self.load.sessions)
        }
    }

    fn check(&self, rules: &mut Rules<'_>) {
        rules.require((1..=TITLE_MAX).contains(&self.title.len()), &["title".into()], || {
            format!("must say what the drill shows, in at most {TITLE_MAX} bytes")
        });
        rules.within(self.repeat, 1..=1_000, "", "repeat");
        rules.within(self.cells, 1..=1_000, "", "cells");
        rules.within(self.cell.nodes, 3..=16, "cell", "nodes");
        rules.within(self.cell.groups_per_node, 1..=64, "cell", "groups_per_node");
        rules.within(self.cell.slice_crashes_per_minute, 1..=1_000, "cell", "slice_crashes_per_minute");
        rules.within(self.load.sessions, 1..=100_000, "load", "sessions");
        rules.within(self.load.requests_per_second, 0.01..=1e6, "load", "requests_per_second");
        rules.within(self.load.stream_percent, 0..=99, "load", "stream_percent");
        rules.within(self.load.churn_per_second, 0.0..=1e6, "load", "churn_per_second");
        rules.within(self.pace.warm_up_ms, 0..=LASTS_MS_MAX, "pace", "warm_up_ms");
        rules.within(self.pace.watch_ms, 0..=LASTS_MS_MAX, "pace", "watch_ms");
        rules.within(self.pace.cool_down_ms, 0..=LASTS_MS_MAX, "pace", "cool_down_ms");
        rules.within(self.must.achieved_over_offered, 0.0..=1.0, "must", "achieved_over_offered");
        for (limit, key) in [
            (self.must.wait_p50_ms, "wait_p50_ms"),
            (self.must.wait_p99_ms, "wait_p99_ms"),
            (self.must.others_wait_p50_ms, "others_wait_p50_ms"),
            (self.must.latency_max_ms, "latency_max_ms"),
        ] {
            rules.within(limit, 0.0..=60_000.0, "must", key);
        }
        let faults = self.faults.len() as u64 * u64::from(self.repeat);
        rules.require((1..=FAULTS_MAX).contains(&faults), &["faults".into()], || {
            format!("{faults} faults with repetitions, must be 1 to {FAULTS_MAX}")
        });
        let last = self.faults.len().saturating_sub(1);
        let ends_protected = self.faults.last().is_none_or(|strike| strike.then == Then::Protected);
        rules.require(ends_protected, &["faults".into(), last.into(), "then".into()], || {
            "must be \"protected\" for the last fault".into()
        });
    }

    fn check_strike(&self, index: usize, strike: &Strike, rules: &mut Rules<'_>) {
        let path = |key: &str| -> [PathStep; 3] { ["faults".into(), index.into(), key.into()] };
        let is_cut = strike.kind == FaultKind::Cut;
        for (key, place) in [("node", strike.node), ("peer", strike.peer)] {
            let exists = !matches!(place, Place::Node(node) if node >= self.cell.nodes);
            rules
                .require(exists, &path(key), || format!("there is no node {place}: cell.nodes is {}", self.cell.nodes));
        }
        let of_orchestrator = strike.node == Place::Orchestrator;
        let is_possible = !of_orchestrator || matches!(strike.kind, FaultKind::Kill | FaultKind::Stop | FaultKind::Cut);
        rules.require(is_possible, &path("kind"), || {
            "an orchestrator can only be killed, stopped, or cut off from a node".into()
        });
        let is_apart = !is_cut || (strike.node != strike.peer || strike.node == Place::Serving);
        rules.require(is_apart, &path("peer"), || "a cut needs two ends".into());
        let takes_no_node = is_cut || of_orchestrator || strike.kind == FaultKind::None;
        rules.require(!takes_no_node || strike.lasts_ms > 0, &path("lasts_ms"), || {
            "must say how long: nothing else ends this fault".into()
        });
        rules.require(strike.lasts_ms <= LASTS_MS_MAX, &path("lasts_ms"), || format!("must be at most {LASTS_MS_MAX}"));
        let may_be_armed =
            strike.at == crate::drill::Moment::Now || (of_orchestrator && strike.kind == FaultKind::Kill);
        rules.require(may_be_armed, &path("at"), || "only the orchestrator can be killed at such a moment".into());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::drill::{EventKind, Moment};

    const SAMPLE: &str = include_str!("../../../../docs/drill.toml");

    fn parse(text: &str) -> Result<DrillFile, ConfigErrors> {
        DrillFile::parse(Path::new("drill.toml"), text)
    }

    /// Every key of a table, as `section.key`.
    fn keys(table: &toml::Table, prefix: &str, found: &mut Vec<String>) {
        for (key, value) in table {
            let name = format!("{prefix}{key}");
            match value {
                toml::Value::Table(inner) => keys(inner, &format!("{name}."), found),
                toml::Value::Array(list) => {
                    list.iter().filter_map(toml::Value::as_table).for_each(|t| keys(t, &format!("{name}."), found));
                }
                _ => found.push(name),
            }
        }
    }

    #[test]
    fn the_sample_states_every_default() {
        let sample = parse(SAMPLE).unwrap();
        assert_eq!(sample, DrillFile { title: sample.title.clone(), ..DrillFile::default() });
        let (mut stated, mut all) = (Vec::new(), Vec::new());
        keys(&SAMPLE.parse().unwrap(), "", &mut stated);
        keys(&toml::Table::try_from(DrillFile::default()).unwrap(), "", &mut all);
        stated.sort();
        all.sort();
        assert_eq!(stated, all);
    }

    #[test]
    fn wrong_values_are_told_with_their_line() {
        let fault = "title = \"x\"\n[[faults]]\n";
        for (text, key, line) in [
            ("repeat = 1\n", "title", None),
            ("title = \"x\"\nrepeat = 0\n", "repeat", Some(2)),
            ("title = \"x\"\n[cell]\nnodes = 2\n", "cell.nodes", Some(3)),
            ("title = \"x\"\n[load]\nsessions = 0\n", "load.sessions", Some(3)),
            ("title = \"x\"\n[must]\nachieved_over_offered = 1.5\n", "must.achieved_over_offered", Some(3)),
            (&format!("{fault}node = 7\n"), "faults[0].node", Some(3)),
            (&format!("{fault}kind = \"guest\"\nnode = \"orchestrator\"\nlasts_ms = 1\n"), "faults[0].kind", Some(3)),
            (&format!("{fault}kind = \"cut\"\n"), "faults[0].lasts_ms", Some(2)),
            (&format!("{fault}kind = \"cut\"\nnode = 1\nlasts_ms = 5\npeer = 1\n"), "faults[0].peer", Some(6)),
            (&format!("{fault}at = \"after_transaction\"\n"), "faults[0].at", Some(3)),
            (&format!("{fault}then = \"nothing\"\n"), "faults[0].then", Some(3)),
            ("title = \"x\"\nfaults = []\n", "faults", Some(2)),
        ] {
            let errors = parse(text).unwrap_err();
            assert_eq!((errors.problems[0].key.as_str(), errors.problems[0].line), (key, line), "{text}{errors}");
        }
        for (unknown, line) in [("colour = 1\n", 3), ("node = \"somewhere\"\n", 3), ("then = \"healed\"\n", 3)] {
            let errors = parse(&format!("{fault}{unknown}")).unwrap_err();
            assert_eq!(errors.problems[0].line, Some(line), "{errors}");
        }
    }

    #[test]
    fn faults_without_protection_between_them_are_one_round() {
        let text = "title = \"x\"\nrepeat = 2\n[[faults]]\nnode = \"next\"\nthen = \"epoch_raised\"\n[[faults]]\n\
                    node = \"orchestrator\"\nat = \"before_transaction\"\nlasts_ms = 90000\n[[faults]]\nthen = \"protected\"\n";
        let file = parse(text).unwrap();
        let plan = file.plan(7, Some(Duration::from_secs(10)));
        assert_eq!(plan.rounds.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 2, 1]);
        let (first, second) = (plan.rounds[0][0], plan.rounds[0][1]);
        assert_eq!((first.node, first.then), (Place::Next, Then::Event(EventKind::EpochRaised)));
        assert_eq!((second.at, second.lasts_ms, plan.seed), (Moment::BeforeTransaction, 10_000, 7));
        assert_eq!(file.plan(7, None).rounds[0][1].lasts_ms, 90_000);
    }
}
