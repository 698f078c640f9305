//! One round: choose a node and a moment, make the fault, watch until all is well again.

use std::thread;
use std::time::{Duration, Instant};

use super::cell_trait::{Cell, CellError, Reprotection};
use super::error::DrillError;
use super::evidence::Evidence;
use super::options::DrillOptions;
use super::progress::Progress;
use super::timeline::Timeline;
use crate::load::{LoadHandle, Nodes, RoundLoad, Seeded, Tally};

/// How long the sessions may take to say who serves them.
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
/// How long the healed node is watched: an old owner that is awake again sends at once, or at its next timer.
const ZOMBIE_WATCH: Duration = Duration::from_secs(1);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// One round that is about to be held.
#[derive(Debug)]
pub struct Round<'a> {
    /// Counted from 1.
    pub number: u32,
    /// What the drill is asked to do.
    pub options: &'a DrillOptions,
    /// The clients.
    pub load: &'a LoadHandle,
    /// For people.
    pub progress: &'a Progress,
}

/// The moment of the fault.
struct Moment {
    held_frames: u64,
    found: bool,
}

impl Round<'_> {
    /// Holds the round; the instant is that of the fault.
    pub fn hold(&self, cell: &mut dyn Cell, random: &mut Seeded) -> Result<(Instant, Evidence), DrillError> {
        let (zombies_before, early_before) = (cell.zombie_frames(), cell.early_frames());
        let node = self.choose_node(random)?;
        self.say(&format!("choosing a moment to {} node {node}", self.options.fault));
        thread::sleep(Duration::from_micros(random.below(RANDOM_PAUSE_US)));
        let moment = self.wait_for_moment(cell, node)?;
        let fault = cell.inject(node, self.options.fault)?;
        self.load.fault(fault, node)?;
        self.say(&format!("{} of node {node}: waiting for its sessions", self.options.fault));
        self.wait_recovered()?;
        self.say("waiting until every slice is protected again");
        let reprotection = Self::reprotection(cell, fault)?;
        let load = self.after_failover()?;
        let early_frames = cell.early_frames().saturating_sub(early_before);
        self.say("healing the node");
        cell.heal(node, self.options.fault)?;
        thread::sleep(ZOMBIE_WATCH);
        let zombie_frames = cell.zombie_frames().saturating_sub(zombies_before);
        self.say("cooling down");
        thread::sleep(self.options.cool_down);
        let timeline = Timeline::of(fault, node, &cell.timeline());
        // Counts go on until the end of the round, the rest is what it was after the failover.
        let end = self.load.round()?;
        let load = RoundLoad { requests: end.requests, of_failed_node: end.of_failed_node, others: end.others, ..load };
        let mut evidence = Evidence {
            node,
            sessions: self.options.sessions,
            load,
            requests: 0,
            of_failed_node: Tally::default(),
            others: Tally::default(),
            timeline,
            held_frames: moment.held_frames,
            moment_found: moment.found,
            zombie_frames,
            early_frames,
            reprotection,
            offset_ms: 0.0,
        };
        evidence.add_first_byte();
        Ok((fault, evidence))
    }

    /// A random one of the nodes that serve sessions.
    fn choose_node(&self, random: &mut Seeded) -> Result<u16, DrillError> {
        let Nodes { sessions, .. } = self.load.refresh_nodes(NODES_LIMIT)?;
        let serving: Vec<u16> = sessions.into_keys().collect();
        let chosen = serving.get(random.below(serving.len() as u64) as usize).copied();
        chosen.ok_or(DrillError::NobodyServes { round: self.number, sessions: self.options.sessions })
    }

    fn wait_for_moment(&self, cell: &mut dyn Cell, node: u16) -> Result<Moment, DrillError> {
        let begun = Instant::now();
        let wanted = self.options.wanted_in_flight();
        loop {
            let elapsed = begun.elapsed();
            if elapsed >= MOMENT_LIMIT {
                return Ok(Moment { held_frames: cell.held_frames(node), found: false });
            }
            let (in_flight, until) =
                if elapsed < MARGIN_LIMIT { (2 * wanted, MARGIN_LIMIT) } else { (wanted, MOMENT_LIMIT) };
            if self.load.wait_in_flight(in_flight, node, until - elapsed)?.is_some() {
                let held_frames = cell.held_frames(node);
                if held_frames > 0 && self.load.live().in_flight() >= wanted {
                    return Ok(Moment { held_frames, found: true });
                }
            }
        }
    }

    fn wait_recovered(&self) -> Result<(), DrillError> {
        let begun = Instant::now();
        // A session that does not recover in time is found in the evidence.
        while self.load.round()?.waiting > 0 && begun.elapsed() < RECOVERY_LIMIT {
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
        self.load.refresh_nodes(NODES_LIMIT)?;
        Ok(self.load.round()?)
    }

    fn say(&self, what: &str) {
        self.progress.say(format!("round {} of {}: {what}", self.number, self.options.rounds));
    }
}
