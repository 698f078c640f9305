//! Many runs on several threads, with the same result for any number of them.

use crate::outcome::{Outcome, run};
use crate::tally::Tally;
use crate::world::Plan;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Seeds that a thread takes at once.
const CHUNK: u64 = 16;
/// Time between two reports of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Runs to be made.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Their seeds.
    pub seeds: Range<u64>,
    /// Threads, at least one.
    pub threads: usize,
    /// Each seed is run twice, and both runs must be equal.
    pub twice: bool,
}

/// What a batch found first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A broken promise.
    Violation(Box<Outcome>),
    /// A seed that ran differently the second time.
    Unequal {
        /// The seed.
        seed: u64,
        /// Hashes over its steps.
        hashes: [u64; 2],
    },
}

impl Found {
    /// Its seed.
    pub const fn seed(&self) -> u64 {
        match self {
            Self::Violation(outcome) => outcome.seed,
            Self::Unequal { seed, .. } => *seed,
        }
    }
}

/// What a batch came to.
#[derive(Clone, Debug, Default)]
pub struct BatchResult {
    /// Sums over the runs; complete if nothing was found.
    pub tally: Tally,
    /// Of everything that was found, what has the lowest seed.
    pub found: Option<Found>,
}

/// Seeds that are left, and the lowest one at which something was found.
struct Shared {
    next: AtomicU64,
    found_at: AtomicU64,
}

impl Batch {
    /// Makes the runs; `plan` says what a seed's run is, `tell` hears how many seeds are done, now and then.
    pub fn run(&self, plan: &(impl Fn(u64) -> Plan + Sync), tell: &(impl Fn(u64) + Sync)) -> BatchResult {
        let shared = Shared { next: AtomicU64::new(self.seeds.start), found_at: AtomicU64::new(u64::MAX) };
        let mut result = BatchResult::default();
        std::thread::scope(|scope| {
            let work = || self.work(&shared, plan, tell);
            let threads: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                let part = match thread.join() {
                    Ok(part) => part,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                result.tally.merge(part.tally);
                let earlier = |found: &Found| result.found.as_ref().is_none_or(|f| found.seed() < f.seed());
                if let Some(found) = part.found.filter(earlier) {
                    result.found = Some(found);
                }
            }
        });
        result
    }

    fn work(&self, shared: &Shared, plan: &impl Fn(u64) -> Plan, tell: &impl Fn(u64)) -> BatchResult {
        let mut result = BatchResult::default();
        let mut told = Instant::now();
        loop {
            let first = shared.next.fetch_add(CHUNK, Ordering::Relaxed);
            if first >= self.seeds.end {
                return result;
            }
            for seed in first..(first + CHUNK).min(self.seeds.end) {
                // Lower seeds may find something yet, higher ones do not matter any more.
                if seed > shared.found_at.load(Ordering::Relaxed) {
                    return result;
                }
                let outcome = run(plan(seed));
                result.tally.add(&outcome);
                if let Some(found) = self.judge(outcome, plan) {
                    shared.found_at.fetch_min(seed, Ordering::Relaxed);
                    result.found = Some(found);
                    return result;
                }
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tell(first.saturating_sub(self.seeds.start));
            }
        }
    }

    fn judge(&self, outcome: Outcome, plan: &impl Fn(u64) -> Plan) -> Option<Found> {
        if outcome.violation.is_some() {
            return Some(Found::Violation(Box::new(outcome)));
        }
        if !self.twice {
            return None;
        }
        let again = run(plan(outcome.seed));
        let hashes = [outcome.hash, again.hash];
        (again != outcome).then_some(Found::Unequal { seed: outcome.seed, hashes })
    }
}
