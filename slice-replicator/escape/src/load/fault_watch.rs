//! What each session saw of a fault: its first right bytes after it.
//!
//! Not the first one alone: a reply that the old owner had released before the fault may come just after it, and says
//! nothing about the failover. Who judges knows when the new owner began and takes the first byte from then on.

use super::http_session::Completion;

/// Replies kept per session after the fault; later ones are of no interest. More than a session has under way.
pub const FIRST_BYTES_MAX: usize = 8;

/// First byte of a right reply after the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstByte {
    /// When the request that was answered was scheduled.
    pub scheduled_us: u64,
    /// When the byte came.
    pub at_us: u64,
}

impl FirstByte {
    /// The wait that a client saw, in microseconds: from the later of `from_us` and the scheduled sending to the byte.
    /// 0 if the byte came before both.
    pub fn gap_us(&self, from_us: u64) -> u64 {
        self.at_us.saturating_sub(self.scheduled_us.max(from_us))
    }
}

/// One fault, watched from the clients' side.
#[derive(Debug)]
pub struct FaultWatch {
    fault_us: u64,
    nodes: Vec<u16>,
    on_failed_node: Vec<bool>,
    /// In order; at most [`FIRST_BYTES_MAX`] each.
    first: Vec<Vec<FirstByte>>,
    given_up: usize,
    /// Sessions of the failed node without a right byte since the fault.
    waiting: usize,
    /// Requests in flight at the fault: all, and those of the failed node's sessions.
    in_flight: u64,
    in_flight_on_failed_node: u64,
}

impl FaultWatch {
    /// A fault at `fault_us` of `nodes`, which serve the sessions marked in `on_failed_node`.
    pub fn new(fault_us: u64, nodes: Vec<u16>, on_failed_node: Vec<bool>) -> Self {
        let waiting = on_failed_node.iter().filter(|&&on| on).count();
        let first = vec![Vec::new(); on_failed_node.len()];
        Self { fault_us, nodes, on_failed_node, given_up: 0, first, waiting, in_flight: 0, in_flight_on_failed_node: 0 }
    }

    /// A right reply of `session`.
    pub fn replied(&mut self, session: usize, completion: &Completion) {
        if completion.done_us <= self.fault_us {
            return;
        }
        let at_us =
            if completion.first_byte_us > self.fault_us { completion.first_byte_us } else { completion.done_us };
        let Some(first) = self.first.get_mut(session).filter(|first| first.len() < FIRST_BYTES_MAX) else { return };
        first.push(FirstByte { scheduled_us: completion.scheduled_us, at_us });
        if first.len() == 1 && self.is_on_failed_node(session) {
            self.waiting -= 1;
        }
    }

    /// `session` was given up: nothing more will come from it.
    pub fn given_up(&mut self, session: usize) {
        if self.first.get(session).is_some_and(Vec::is_empty) && self.is_on_failed_node(session) {
            self.waiting -= 1;
            self.given_up += 1;
            // It has no first byte and never will; without the mark it is not counted twice.
            if let Some(on) = self.on_failed_node.get_mut(session) {
                *on = false;
            }
        }
    }

    /// `session` is lost with its group, as was reported: it is not one of the sessions that must be served again.
    /// `was_given_up`: it was counted as given up before.
    pub fn excuse(&mut self, session: usize, was_given_up: bool) {
        if self.is_on_failed_node(session) {
            self.waiting -= usize::from(self.first.get(session).is_some_and(Vec::is_empty));
            if let Some(on) = self.on_failed_node.get_mut(session) {
                *on = false;
            }
        } else if was_given_up {
            self.given_up = self.given_up.saturating_sub(1);
        }
    }

    /// A request of `session` that was sent at `sent_us` and had no reply until `done_us` (`None`: has none yet).
    pub fn count_in_flight(&mut self, session: usize, sent_us: u64, done_us: Option<u64>) {
        if sent_us <= self.fault_us && done_us.is_none_or(|done| done > self.fault_us) {
            self.in_flight += 1;
            self.in_flight_on_failed_node += u64::from(self.is_on_failed_node(session));
        }
    }

    /// Whether the failed node served `session`.
    pub fn is_on_failed_node(&self, session: usize) -> bool {
        self.on_failed_node.get(session).copied().unwrap_or(false)
    }

    /// Whether `node` failed.
    pub fn has_failed(&self, node: u16) -> bool {
        self.nodes.contains(&node)
    }

    /// Sessions that the failed node served at the fault, those given up since included.
    pub fn on_failed_node(&self) -> usize {
        self.on_failed_node.iter().filter(|&&on| on).count() + self.given_up
    }

    /// When the fault happened.
    pub fn fault_us(&self) -> u64 {
        self.fault_us
    }

    /// Sessions of the failed node without a right byte since the fault.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Requests in flight at the fault: all, and those of the failed node's sessions.
    pub fn in_flight(&self) -> (u64, u64) {
        (self.in_flight, self.in_flight_on_failed_node)
    }

    /// First bytes of each session that the failed node served (`true`) or did not serve (`false`).
    pub fn first_bytes(&self, on_failed_node: bool) -> Vec<Vec<FirstByte>> {
        let sessions = self.first.iter().zip(&self.on_failed_node);
        let chosen = sessions.filter(|&(first, &on)| on == on_failed_node && !first.is_empty());
        chosen.map(|(first, _)| first.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(scheduled_us: u64, first_byte_us: u64, done_us: u64) -> Completion {
        Completion { scheduled_us, sent_us: scheduled_us, first_byte_us, done_us }
    }

    #[test]
    fn a_gap_begins_at_the_later_of_fault_and_schedule() {
        let mut watch = FaultWatch::new(1_000, vec![1], vec![true, true, false]);
        watch.replied(0, &completion(900, 1_050, 1_060));
        watch.replied(0, &completion(950, 1_070, 1_080));
        watch.replied(1, &completion(1_500, 1_510, 1_520));
        let gaps: Vec<Vec<u64>> =
            watch.first_bytes(true).iter().map(|first| first.iter().map(|byte| byte.gap_us(1_000)).collect()).collect();
        assert_eq!(gaps, [vec![50, 70], vec![10]]);
        assert_eq!(watch.waiting(), 0);
        assert!(watch.first_bytes(false).is_empty());
    }

    #[test]
    fn replies_that_were_complete_before_the_fault_do_not_count() {
        let mut watch = FaultWatch::new(1_000, vec![1], vec![true]);
        watch.replied(0, &completion(900, 990, 1_000));
        assert_eq!(watch.waiting(), 1);
        watch.replied(0, &completion(900, 990, 1_001));
        assert_eq!(watch.first_bytes(true), [vec![FirstByte { scheduled_us: 900, at_us: 1_001 }]]);
    }

    #[test]
    fn in_flight_means_sent_and_unanswered_at_the_fault() {
        let mut watch = FaultWatch::new(1_000, vec![1], vec![true, false]);
        watch.count_in_flight(0, 990, Some(1_010));
        watch.count_in_flight(1, 1_000, None);
        watch.count_in_flight(1, 1_001, None);
        watch.count_in_flight(1, 900, Some(1_000));
        assert_eq!(watch.in_flight(), (2, 1));
    }

    #[test]
    fn a_session_that_is_lost_with_its_group_is_not_waited_for() {
        let mut watch = FaultWatch::new(1_000, vec![1, 2], vec![true, true, false]);
        watch.excuse(0, false);
        assert_eq!((watch.on_failed_node(), watch.waiting()), (1, 1));
        watch.given_up(1);
        watch.excuse(1, true);
        assert_eq!((watch.on_failed_node(), watch.waiting()), (0, 0));
        watch.excuse(2, false);
        assert!(watch.has_failed(2) && !watch.has_failed(3));
    }

    #[test]
    fn a_session_that_was_given_up_is_not_waited_for() {
        let mut watch = FaultWatch::new(1_000, vec![1], vec![true]);
        watch.given_up(0);
        watch.given_up(0);
        assert_eq!(watch.waiting(), 0);
    }
}
