//! Failure detection: heartbeats in, suspected nodes out.

use crate::Micros;
use escape_proto::{Beat, Incarnation, Member, NodeId};

/// Time limits of the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SuspicionConfig {
    /// Silence after which a node is suspected, microseconds (default 12,000).
    pub suspect_after_us: u64,
    /// Beats without progress of the data thread after which a node is suspected, microseconds.
    pub progress_timeout_us: u64,
    /// If the detector's own loop comes later than this, all its timers start anew: its own stall is not their death.
    pub own_pause_us: u64,
}

impl Default for SuspicionConfig {
    fn default() -> Self {
        Self { suspect_after_us: 12_000, progress_timeout_us: 300_000, own_pause_us: 5_000 }
    }
}

/// A broken connection divides the limit of silence by this: a machine that is gone closes its sockets, one that is slow
/// does not.
const HINT_DIVISOR: u64 = 4;

/// Which of the watched nodes give no sign of life. Used by the orchestrator and by each node's heartbeat thread.
///
/// Call [`Suspicion::suspects`] at least every `own_pause_us`. A suspicion kills nobody: the orchestrator wants two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Suspicion {
    config: SuspicionConfig,
    watched: [Option<Watched>; Self::NODES_MAX],
    last_look: Option<Micros>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Watched {
    inc: Incarnation,
    seq: u64,
    turns: u64,
    beat_at: Micros,
    turned_at: Micros,
    hinted: bool,
    suspects: u32,
}

impl Suspicion {
    /// Node ids are below this: a bit each in [`Beat::suspects`].
    pub const NODES_MAX: usize = 32;

    /// A detector that watches nobody.
    pub const fn new(config: SuspicionConfig) -> Self {
        Self { config, watched: [None; Self::NODES_MAX], last_look: None }
    }

    /// Watches this life of a node from now on; a known life keeps its timers. Ids from [`Self::NODES_MAX`] up are ignored.
    pub fn watch(&mut self, now: Micros, member: Member) {
        let Some(place) = self.watched.get_mut(usize::from(member.node.0)) else { return };
        if place.is_none_or(|w| w.inc < member.inc) {
            *place = Some(Watched {
                inc: member.inc,
                seq: 0,
                turns: 0,
                beat_at: now,
                turned_at: now,
                hinted: false,
                suspects: 0,
            });
        }
    }

    /// Stops watching a node.
    pub fn forget(&mut self, node: NodeId) {
        if let Some(place) = self.watched.get_mut(usize::from(node.0)) {
            *place = None;
        }
    }

    /// A beat arrived. Old, replayed and other lives' beats are ignored; returns whether it counted.
    pub fn beat(&mut self, now: Micros, beat: &Beat) -> bool {
        let Some(w) = self.watched_mut(beat.node) else { return false };
        if w.inc != beat.inc || beat.seq <= w.seq {
            return false;
        }
        w.seq = beat.seq;
        w.beat_at = now;
        w.suspects = beat.suspects;
        w.hinted = false;
        if beat.data_turns > w.turns {
            w.turns = beat.data_turns;
            w.turned_at = now;
        }
        true
    }

    /// A connection to this node broke: quarters its beat timeout until its next beat. Never kills alone.
    pub fn hint(&mut self, member: Member) {
        if let Some(w) = self.watched_mut(member.node)
            && w.inc == member.inc
        {
            w.hinted = true;
        }
    }

    /// The suspected nodes as a bit mask (bit n = node n). Also notices the detector's own pauses.
    pub fn suspects(&mut self, now: Micros) -> u32 {
        if self.last_look.is_some_and(|last| now.saturating_sub(last) > self.config.own_pause_us) {
            for w in self.watched.iter_mut().flatten() {
                w.beat_at = now;
                w.turned_at = now;
            }
        }
        self.last_look = Some(now);
        let config = self.config;
        let bits = self.watched.iter().enumerate();
        bits.filter_map(|(n, w)| w.filter(|w| w.is_suspect(now, config)).map(|_| 1u32 << n)).fold(0, |a, b| a | b)
    }

    /// Does the last beat of `witness` suspect `node`?
    pub fn is_suspected_by(&self, node: NodeId, witness: NodeId) -> bool {
        let bit = 1u32.checked_shl(u32::from(node.0)).unwrap_or(0);
        self.watched.get(usize::from(witness.0)).copied().flatten().is_some_and(|w| w.suspects & bit != 0)
    }

    /// Microseconds since the last beat (or since watching began, or since the detector's own last pause).
    pub fn silent_us(&self, now: Micros, node: NodeId) -> Option<u64> {
        let watched = self.watched.get(usize::from(node.0)).copied().flatten();
        watched.map(|w| now.saturating_sub(w.beat_at))
    }

    fn watched_mut(&mut self, node: NodeId) -> Option<&mut Watched> {
        self.watched.get_mut(usize::from(node.0)).and_then(Option::as_mut)
    }
}

impl Watched {
    fn is_suspect(&self, now: Micros, config: SuspicionConfig) -> bool {
        let limit = if self.hinted { config.suspect_after_us / HINT_DIVISOR } else { config.suspect_after_us };
        now.saturating_sub(self.beat_at) > limit || now.saturating_sub(self.turned_at) > config.progress_timeout_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Member = Member { node: NodeId(3), inc: Incarnation(2) };

    fn beat(seq: u64, turns: u64) -> Beat {
        Beat { node: X.node, inc: X.inc, seq, data_turns: turns, suspects: 0 }
    }

    /// Looks every millisecond up to `to`, without a beat.
    fn idle(s: &mut Suspicion, from: Micros, to: Micros) -> u32 {
        (from..=to).step_by(1000).map(|t| s.suspects(t)).last().unwrap_or(0)
    }

    #[test]
    fn silence_is_suspected_and_a_beat_clears_it() {
        let mut s = Suspicion::new(SuspicionConfig::default());
        s.watch(0, X);
        assert_eq!(idle(&mut s, 0, 12_000), 0);
        assert_eq!(idle(&mut s, 13_000, 13_000), 1 << 3);
        assert!(s.beat(13_500, &beat(1, 1)));
        assert_eq!(s.suspects(14_000), 0);
    }

    #[test]
    fn beats_without_progress_are_suspected() {
        let mut s = Suspicion::new(SuspicionConfig::default());
        s.watch(0, X);
        for t in 1..=301u64 {
            s.beat(t * 1000, &beat(t, 1));
            assert_eq!(s.suspects(t * 1000), 0, "at {t} ms");
        }
        s.beat(302_000, &beat(302, 1));
        assert_eq!(s.suspects(302_000), 1 << 3);
    }

    #[test]
    fn a_hint_quarters_the_limit_and_kills_nobody_alone() {
        let mut s = Suspicion::new(SuspicionConfig::default());
        s.watch(0, X);
        s.hint(X);
        assert_eq!(idle(&mut s, 0, 3_000), 0);
        assert_eq!(s.suspects(4_000), 1 << 3);
        s.beat(4_100, &beat(1, 1));
        assert_eq!(idle(&mut s, 5_000, 16_000), 0);
    }

    #[test]
    fn an_own_pause_restarts_the_timers() {
        let mut s = Suspicion::new(SuspicionConfig::default());
        s.watch(0, X);
        assert_eq!(s.suspects(1_000), 0);
        assert_eq!(s.suspects(60_000), 0);
        assert_eq!(idle(&mut s, 61_000, 72_000), 0);
        assert_eq!(s.suspects(73_000), 1 << 3);
    }

    #[test]
    fn replayed_beats_and_other_lives_do_not_count() {
        let mut s = Suspicion::new(SuspicionConfig::default());
        s.watch(0, X);
        assert!(s.beat(1, &beat(5, 1)));
        assert!(!s.beat(2, &beat(5, 2)));
        assert!(!s.beat(3, &Beat { inc: Incarnation(1), ..beat(9, 9) }));
        assert!(!s.beat(4, &Beat { node: NodeId(99), ..beat(9, 9) }));
    }
}
