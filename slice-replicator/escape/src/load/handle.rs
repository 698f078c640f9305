//! The running load as the drill sees it: one generator, or several where one may not have so many sockets.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit};

use super::clock::LoadClock;
use super::command::{Nodes, RoundLoad};
use super::error::LoadError;
use super::generator_handle::{Enter, GeneratorHandle};
use super::live::Live;
use super::outcome::LoadOutcome;
use super::plan::LoadPlan;
use super::turns::CHURN_MAX;

/// Descriptors beside the sessions'.
const OTHER_FILES: u64 = 256;
/// Pause between two looks at a figure that is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// Generators on threads of their own. Dropped without [`LoadHandle::finish`], they still end within their limits.
#[derive(Debug)]
pub struct LoadHandle {
    generators: Vec<GeneratorHandle>,
    sessions: u64,
}

impl LoadHandle {
    /// Starts the load; sessions are opened at the plan's pace, then the schedule begins. `enter` makes what brings each
    /// generator's thread into the clients' network namespace.
    pub fn start(plan: LoadPlan, enter: impl Fn() -> Enter) -> Result<Self, LoadError> {
        let sessions = plan.sessions as u64;
        let generators = generators_needed(sessions)?.max(plan.generators);
        let parts = plan.parts(generators);
        let (clock, own_files) = (LoadClock::start(), parts.len() > 1);
        let start = |plan| GeneratorHandle::start(plan, clock, enter(), own_files);
        let generators = parts.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { generators, sessions })
    }

    /// Requests in flight now.
    pub fn in_flight(&self) -> u64 {
        self.generators.iter().map(|g| g.live().in_flight()).sum()
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.generators.iter().map(|g| Live::get(&g.live().requests)).sum()
    }

    /// Waits until every session is open.
    pub fn wait_open(&self, limit: Duration) -> Result<(), LoadError> {
        let begun = Instant::now();
        loop {
            let sum = |figure: fn(&Live) -> u64| self.generators.iter().map(|g| figure(g.live())).sum::<u64>();
            let (open, gone) = (sum(|live| Live::get(&live.open)), sum(|live| Live::get(&live.gone)));
            if open >= self.sessions {
                return Ok(());
            }
            if gone > 0 || begun.elapsed() >= limit || self.generators.iter().any(GeneratorHandle::is_finished) {
                let first = self.generators.iter().find_map(|g| g.live().first_violation.get());
                let first = first.map_or(String::new(), |first| format!("; first: {first}"));
                let (sessions, after) = (self.sessions, begun.elapsed());
                return Err(LoadError::NotOpened { open, sessions, gone, after, first });
            }
            thread::sleep(LOOK);
        }
    }

    /// Has every HTTP session ask which node serves it and waits for the answers. Sessions that do not answer within
    /// `limit` are counted as unknown.
    pub fn refresh_nodes(&self, limit: Duration) -> Result<Nodes, LoadError> {
        self.generators.iter().try_for_each(GeneratorHandle::refresh_nodes)?;
        let begun = Instant::now();
        loop {
            let mut nodes = Nodes::default();
            for generator in &self.generators {
                nodes.add(generator.nodes()?);
            }
            if nodes.unknown == 0 || begun.elapsed() >= limit {
                return Ok(nodes);
            }
            thread::sleep(4 * LOOK);
        }
    }

    /// Waits until `in_flight` requests are in flight, at least one of them of `node`'s sessions. `None`: the moment
    /// did not come within `limit`. With several generators the first one tells its own moments, with its share in flight.
    pub fn wait_in_flight(&self, in_flight: u64, node: u16, limit: Duration) -> Result<Option<u64>, LoadError> {
        let Some(first) = self.generators.first() else { return Ok(None) };
        let share = in_flight.div_ceil(self.generators.len() as u64);
        let begun = Instant::now();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            if first.wait_in_flight(share, node, left)?.is_none() {
                return Ok(None);
            }
            let now = self.in_flight();
            if now >= in_flight || self.generators.len() == 1 {
                return Ok(Some(now));
            }
        }
    }

    /// Tells that a fault happened to `nodes` (none: to another part of the cell).
    pub fn fault(&self, at: Instant, nodes: &[u16]) -> Result<(), LoadError> {
        self.generators.iter().try_for_each(|generator| generator.fault(at, nodes))
    }

    /// Gives up the sessions with these client addresses: they were reported as lost. Returns their number.
    pub fn excuse(&self, clients: &[SocketAddr]) -> Result<usize, LoadError> {
        let mut excused = 0;
        for generator in &self.generators {
            excused += generator.excuse(clients.to_vec())?;
        }
        Ok(excused)
    }

    /// What was seen since the last fault.
    pub fn round(&self) -> Result<RoundLoad, LoadError> {
        let mut round = RoundLoad::default();
        for generator in &self.generators {
            round.add(generator.round()?);
        }
        Ok(round)
    }

    /// Ends the load: last replies, last check of every session, clean close. Bounded by the limits of those phases.
    pub fn finish(self) -> Result<LoadOutcome, LoadError> {
        // All of them hear of it before one is waited for.
        self.generators.iter().try_for_each(GeneratorHandle::begin_end)?;
        let mut outcome: Option<LoadOutcome> = None;
        for generator in self.generators {
            let part = generator.finish()?;
            match &mut outcome {
                None => outcome = Some(part),
                Some(outcome) => outcome.add(part),
            }
        }
        outcome.ok_or(LoadError::Panicked)
    }
}

/// How many generators so many sessions need: one, if the limit of open files can be raised as far as that takes.
fn generators_needed(sessions: u64) -> Result<usize, LoadError> {
    let others = CHURN_MAX as u64 + OTHER_FILES;
    match raise_file_limit(sessions + others) {
        Ok(()) => Ok(1),
        Err(LoadError::FileLimit { limit, .. }) if limit > 2 * others => {
            raise_file_limit(limit)?;
            let each = limit - others;
            Ok(usize::try_from(sessions.div_ceil(each)).unwrap_or(usize::MAX))
        }
        Err(error) => Err(error),
    }
}

/// Raises the limit of open files as far as needed and allowed; the hard limit too where that may be done.
pub(crate) fn raise_file_limit(wanted: u64) -> Result<(), LoadError> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // None means "no limit".
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|&maximum| maximum < wanted) {
        let higher = Rlimit { current: Some(wanted), maximum: Some(wanted) };
        return rustix::process::setrlimit(Resource::Nofile, higher)
            .map_err(|_| LoadError::FileLimit { wanted, limit: maximum });
    }
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
        .map_err(|errno| LoadError::Io { what: "raising the limit of open files", source: errno.into() })
}
