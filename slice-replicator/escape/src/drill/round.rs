//! One round: choose places and a moment, make the faults, watch until all is well again.

use std::thread;
use std::time::{Duration, Instant};

use super::cell_trait::{Cell, CellError, MishapKind, Reprotection};
use super::chooser::Chooser;
use super::error::DrillError;
use super::evidence::{Achieved, Evidence};
use super::injury::Injury;
use super::losses::Losses;
use super::plan::DrillPlan;
use super::progress::Progress;
use super::strike::{Heal, Moment, Strike};
use super::then::Then;
use super::timeline::{EventKind, Step, Timeline};
use crate::load::{LoadHandle, Nodes, RoundLoad, Tally};

/// How long the sessions may take to say who serves them, once each has had its next turn.
const NODES_LIMIT: Duration = Duration::from_secs(5);
/// The fault comes at a random time within this span, so that it meets no fixed phase of anything.
const RANDOM_PAUSE_US: u64 = 500_000;
/// How long a moment with enough requests in flight and a held frame is waited for; then the fault comes anyway and
/// the report says that the test was weak.
const MOMENT_LIMIT: Duration = Duration::from_secs(10);
/// Part of [`MOMENT_LIMIT`] in which twice the wanted number is waited for: some replies come while the fault is made.
const MARGIN_LIMIT: Duration = Duration::from_secs(3);
/// How long all sessions of the failed node may take to have a right byte again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(10);
/// How long the cell may take to be protected again.
const REPROTECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a step of the failover is awaited that the next fault shall follow.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Pause between two looks for a step that the next fault shall follow at once.
const CLOSE_LOOK: Duration = Duration::from_micros(200);

/// One round that is about to be held.
#[derive(Debug)]
pub struct Round<'a> {
    /// Counted from 1.
    pub number: u32,
    /// The round's faults.
    pub strikes: &'a [Strike],
    /// What the drill is asked to do.
    pub plan: &'a DrillPlan,
    /// The clients.
    pub load: &'a LoadHandle,
    /// For people.
    pub progress: &'a Progress,
}

/// When the faults come.
struct Chance {
    held_frames: u64,
    found: bool,
}

/// A fault that was made.
struct Struck {
    injury: Injury,
    at: Instant,
    lasts: Duration,
    heal: Heal,
}

impl Struck {
    /// It ends when its time is over, not when the cell is well without what it took.
    fn is_timed(&self) -> bool {
        self.injury.failed_node().is_none() || self.heal == Heal::InTime
    }
}

impl Round<'_> {
    /// Holds the round; the instant is that of the first fault. Mishaps count from `since` on: the end of the round before.
    pub fn hold(
        &self,
        cell: &mut dyn Cell,
        chooser: &mut Chooser,
        since: Instant,
    ) -> Result<(Instant, Evidence), DrillError> {
        let (zombies_before, early_before) = (cell.zombie_frames(), cell.early_frames());
        let mut losses = Losses::watch(cell, self.plan.must.lost_groups)?;
        let injuries = self.choose(cell, chooser)?;
        let failed: Vec<u16> = injuries.iter().filter_map(Injury::failed_node).collect();
        let chance = self.wait_for_moment(cell, failed.first().copied())?;
        let (before, struck) = self.strike(cell, &injuries, &failed)?;
        let fault = struck.first().map_or_else(Instant::now, |struck| struck.at);
        let (timed, lasting): (Vec<Struck>, _) = struck.into_iter().partition(Struck::is_timed);
        self.heal_in_time(cell, &timed)?;
        let takes_no_node = timed.iter().any(|s| s.injury.failed_node().is_none());
        let achieved = takes_no_node.then(|| self.achieved_since(&before)).transpose()?;
        self.say("waiting for the sessions");
        self.wait_recovered(cell, fault, &mut losses)?;
        self.say("waiting until every slice is protected again");
        let reprotection = Self::reprotection(cell, fault)?;
        losses.excuse(cell, self.load, fault)?;
        let load = self.after_failover()?;
        let early_frames = cell.early_frames().saturating_sub(early_before);
        self.heal(cell, &lasting)?;
        self.say("cooling down");
        thread::sleep(self.plan.pace.watch);
        let zombie_frames = cell.zombie_frames().saturating_sub(zombies_before);
        thread::sleep(self.plan.pace.cool_down);
        // Counts go on until the end of the round, the rest is what it was after the failover.
        let end = self.load.round()?;
        let load = RoundLoad { requests: end.requests, of_failed_node: end.of_failed_node, others: end.others, ..load };
        let mishaps: Vec<MishapKind> =
            cell.mishaps().into_iter().filter(|mishap| mishap.at >= since).map(|mishap| mishap.what).collect();
        let mut evidence = Evidence {
            failover_expected: !failed.is_empty() && !self.plan.must.no_failover,
            sessions: self.plan.sessions,
            load,
            requests: 0,
            of_failed_node: Tally::default(),
            others: Tally::default(),
            timeline: Self::timeline(cell, fault, &failed, timed.iter().chain(&lasting)),
            held_frames: chance.held_frames,
            moment_found: chance.found,
            zombie_frames,
            early_frames,
            reprotection,
            false_deaths: false_deaths(&mishaps, &failed),
            quarantined: quarantined(&mishaps),
            claimed: mishaps.iter().filter(|mishap| matches!(mishap, MishapKind::Claimed(_))).count(),
            achieved,
            lost: losses.found(),
            offset_ms: 0.0,
            injuries,
        };
        evidence.add_first_byte();
        Ok((fault, evidence))
    }

    /// The places of the faults, and a random pause.
    fn choose(&self, cell: &mut dyn Cell, chooser: &mut Chooser) -> Result<Vec<Injury>, DrillError> {
        self.say("choosing a moment");
        let Nodes { sessions, .. } = self.load.refresh_nodes(self.nodes_limit())?;
        if sessions.is_empty() {
            return Err(DrillError::NobodyServes { round: self.number, sessions: self.plan.sessions });
        }
        let serving: Vec<u16> = sessions.into_keys().collect();
        let injuries = chooser.injuries(self.strikes, cell, &serving)?;
        thread::sleep(Duration::from_micros(chooser.below(RANDOM_PAUSE_US)));
        Ok(injuries)
    }

    /// Sessions ask at their next turn.
    fn nodes_limit(&self) -> Duration {
        NODES_LIMIT + Duration::from_secs_f64(1.0 / self.plan.requests_per_second.max(0.01))
    }

    /// A fault that takes no node needs no certain moment.
    fn wait_for_moment(&self, cell: &mut dyn Cell, node: Option<u16>) -> Result<Chance, DrillError> {
        let Some(node) = node else { return Ok(Chance { held_frames: 0, found: true }) };
        let begun = Instant::now();
        let wanted = self.plan.wanted_in_flight();
        loop {
            let elapsed = begun.elapsed();
            if elapsed >= MOMENT_LIMIT {
                return Ok(Chance { held_frames: cell.held_frames(node), found: false });
            }
            let (in_flight, until) =
                if elapsed < MARGIN_LIMIT { (2 * wanted, MARGIN_LIMIT) } else { (wanted, MOMENT_LIMIT) };
            if self.load.wait_in_flight(in_flight, node, until - elapsed)?.is_some() {
                let held_frames = cell.held_frames(node);
                if held_frames > 0 && self.load.in_flight() >= wanted {
                    return Ok(Chance { held_frames, found: true });
                }
            }
        }
    }

    /// Makes the faults, one after the other. Also returns the load's counts from just before the first one.
    fn strike(
        &self,
        cell: &mut dyn Cell,
        injuries: &[Injury],
        failed: &[u16],
    ) -> Result<(RoundLoad, Vec<Struck>), DrillError> {
        for injury in injuries {
            if let Injury::OrchestratorKilled(moment @ (Moment::BeforeTransaction | Moment::AfterTransaction)) = injury
            {
                cell.arm_orchestrator(*moment)?;
            }
        }
        // Not between the moment and the fault where the moment matters.
        let before = if failed.is_empty() { self.load.round()? } else { RoundLoad::default() };
        let mut struck: Vec<Struck> = Vec::new();
        for (strike, injury) in self.strikes.iter().zip(injuries) {
            let at = injury.inflict(cell)?;
            if struck.is_empty() {
                self.load.fault(at, failed)?;
            }
            self.say(&injury.to_string());
            struck.push(Struck { injury: *injury, at, lasts: strike.lasts(), heal: strike.heal });
            let first = struck.first().map_or(at, |first| first.at);
            match strike.then {
                Then::Protected | Then::Nothing => {}
                Then::Pause(pause) => thread::sleep(pause),
                Then::Event(event) => wait_for_step(cell, first, event)?,
            }
        }
        Ok((before, struck))
    }

    /// Heals what is to end when its time is over.
    fn heal_in_time(&self, cell: &mut dyn Cell, struck: &[Struck]) -> Result<(), DrillError> {
        let mut by_end: Vec<&Struck> = struck.iter().collect();
        by_end.sort_by_key(|struck| struck.at + struck.lasts);
        for Struck { injury, at, lasts, .. } in by_end {
            self.say(&format!("{injury}, for {} s", lasts.as_secs_f64()));
            thread::sleep(lasts.saturating_sub(at.elapsed()));
            injury.heal(cell)?;
        }
        Ok(())
    }

    /// Heals nodes, once the cell is protected without them.
    fn heal(&self, cell: &mut dyn Cell, struck: &[Struck]) -> Result<(), DrillError> {
        for Struck { injury, at, lasts, .. } in struck {
            self.say(&format!("healing after {injury}"));
            thread::sleep(lasts.saturating_sub(at.elapsed()));
            injury.heal(cell)?;
        }
        Ok(())
    }

    fn achieved_since(&self, before: &RoundLoad) -> Result<Achieved, DrillError> {
        let now = self.load.round()?;
        let due = |load: &RoundLoad| load.requests + load.held_back;
        Ok(Achieved {
            replies: now.replies.saturating_sub(before.replies),
            offered: due(&now).saturating_sub(due(before)),
        })
    }

    fn wait_recovered(&self, cell: &mut dyn Cell, fault: Instant, losses: &mut Losses) -> Result<(), DrillError> {
        let begun = Instant::now();
        // A session that does not recover in time is found in the evidence.
        while self.load.round()?.waiting > 0 && begun.elapsed() < RECOVERY_LIMIT {
            losses.excuse(cell, self.load, fault)?;
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn reprotection(cell: &mut dyn Cell, fault: Instant) -> Result<Option<(Reprotection, f64)>, DrillError> {
        match cell.wait_reprotected(REPROTECT_LIMIT) {
            Ok(found) => {
                let ms = found.at.saturating_duration_since(fault).as_secs_f64() * 1e3;
                Ok(Some((found, ms)))
            }
            // Not in time is a finding, not an error.
            Err(CellError::TooSlow { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Who serves the sessions now, and what they saw.
    fn after_failover(&self) -> Result<RoundLoad, DrillError> {
        self.load.refresh_nodes(self.nodes_limit())?;
        Ok(self.load.round()?)
    }

    fn timeline<'s>(
        cell: &mut dyn Cell,
        fault: Instant,
        failed: &[u16],
        struck: impl Iterator<Item = &'s Struck>,
    ) -> Timeline {
        let mut timeline = Timeline::of(fault, failed, &cell.timeline());
        for Struck { injury, at, .. } in struck.filter(|struck| struck.at > fault) {
            let t_ms = at.saturating_duration_since(fault).as_secs_f64() * 1e3;
            timeline.add(Step { t_ms, event: EventKind::Fault, node: injury.failed_node() });
        }
        timeline
    }

    fn say(&self, what: &str) {
        self.progress.say(format!("round {} of {}: {what}", self.number, self.plan.rounds.len()));
    }
}

fn wait_for_step(cell: &mut dyn Cell, fault: Instant, event: EventKind) -> Result<(), CellError> {
    let begun = Instant::now();
    while !cell.timeline().iter().any(|seen| seen.event == event && seen.at >= fault) {
        if begun.elapsed() > STEP_LIMIT {
            let what = format!("the step {:?} of a failover", event.words());
            return Err(CellError::TooSlow { what, limit: STEP_LIMIT, hint: String::new() });
        }
        thread::sleep(CLOSE_LOOK);
    }
    Ok(())
}

fn false_deaths(mishaps: &[MishapKind], failed: &[u16]) -> Vec<u16> {
    let dead = mishaps.iter().filter_map(|mishap| match mishap {
        MishapKind::Dead(node) => Some(*node),
        _ => None,
    });
    dead.filter(|node| !failed.contains(node)).collect()
}

fn quarantined(mishaps: &[MishapKind]) -> Vec<String> {
    let told = mishaps.iter().filter_map(|mishap| match mishap {
        MishapKind::Quarantined { node, cause } => Some(format!("node {node} gave up a slice: {cause}")),
        _ => None,
    });
    told.collect()
}
