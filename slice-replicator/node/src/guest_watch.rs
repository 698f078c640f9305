//! Is the guest alive? Pings through the control pages, answered by its main loop.

use escape_engine::Micros;

/// Least time between pings, microseconds: an idle guest is woken this often and no more.
const PING_EVERY_US_MIN: u64 = 10_000;
/// Pings within the time that a guest has for an answer.
const PINGS_PER_TIMEOUT: u64 = 12;
/// Processor time of the guest behind each nudge, microseconds. A guest that waits for the processor uses none.
const NUDGE_EVERY_US: u64 = 10_000;
/// Nudges that a guest gets: it breaks off at the fifth what it is at (`escape_abi::layout::vector::NUDGE`).
const NUDGES_MAX: u32 = 7;
/// A guest that works gets this many times the patience, so that its nudges can do their work on a busy machine.
const WORKING_PATIENCE: u64 = 4;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Fine,
    /// Raise the ping to this number.
    Ping(u64),
    /// It works and does not answer: nudge it.
    Nudge,
    /// No answer for too long: the guest hangs.
    Hung,
    /// It was started and is not up after all that time.
    NotUp,
}

/// Watches one life of a guest.
#[derive(Debug)]
pub struct GuestWatch {
    timeout_us: u64,
    boot_us: u64,
    /// Since when it boots.
    boots_since: Option<Micros>,
    number: u64,
    asked_at: Option<Micros>,
    /// The guest's processor time at the ping, or at the last nudge since.
    nudged_at_processor_us: u64,
    nudges: u32,
    next_at: Micros,
    running: bool,
    looked_at: Micros,
}

impl GuestWatch {
    /// A watch with this patience for an answer, and this for a boot, microseconds.
    pub const fn new(timeout_us: u64, boot_us: u64) -> Self {
        Self {
            timeout_us,
            boot_us,
            boots_since: None,
            number: 0,
            asked_at: None,
            nudged_at_processor_us: 0,
            nudges: 0,
            next_at: 0,
            running: false,
            looked_at: 0,
        }
    }

    /// The guest was started: it is to say that it is up.
    pub const fn started(&mut self, now: Micros) {
        (self.running, self.boots_since) = (false, Some(now));
    }

    /// The guest said that it is up.
    pub const fn ready(&mut self, now: Micros) {
        self.boots_since = None;
        (self.running, self.number, self.asked_at, self.next_at) = (true, 0, None, now);
    }

    /// The guest is down; nothing is expected of it.
    pub const fn down(&mut self) {
        (self.running, self.boots_since) = (false, None);
    }

    /// Looks at the guest's last answer, and at the processor time that it has used (microseconds).
    pub fn look(&mut self, now: Micros, pong: u64, processor_us: u64) -> Look {
        if !self.running {
            return self.look_at_boot(now);
        }
        // The own thread was away: the guest gets its time anew.
        if now.saturating_sub(self.looked_at) > self.timeout_us / 4
            && let Some(at) = &mut self.asked_at
        {
            *at = now;
        }
        self.looked_at = now;
        match self.asked_at {
            Some(_) if pong == self.number => self.asked_at = None,
            Some(at) => return self.unanswered(now.saturating_sub(at), processor_us),
            None => {}
        }
        if now < self.next_at {
            return Look::Fine;
        }
        self.number += 1;
        self.next_at = now + PING_EVERY_US_MIN.max(self.timeout_us / PINGS_PER_TIMEOUT);
        self.asked_at = Some(now);
        (self.nudged_at_processor_us, self.nudges) = (processor_us, 0);
        Look::Ping(self.number)
    }

    fn look_at_boot(&mut self, now: Micros) -> Look {
        let own_pause = now.saturating_sub(self.looked_at) > self.boot_us / 4;
        self.looked_at = now;
        match &mut self.boots_since {
            Some(since) if own_pause => *since = now,
            Some(since) if now.saturating_sub(*since) > self.boot_us => {
                self.boots_since = None;
                return Look::NotUp;
            }
            _ => {}
        }
        Look::Fine
    }

    /// A ping has waited for so long. A guest that works is nudged first: if it is one slice that does not end, that one
    /// is lost and the guest lives.
    fn unanswered(&mut self, waited_us: u64, processor_us: u64) -> Look {
        let worked_us = processor_us.saturating_sub(self.nudged_at_processor_us);
        if worked_us >= NUDGE_EVERY_US && self.nudges < NUDGES_MAX {
            (self.nudged_at_processor_us, self.nudges) = (processor_us, self.nudges + 1);
            return Look::Nudge;
        }
        let works = (1..NUDGES_MAX).contains(&self.nudges);
        let patience_us = if works { self.timeout_us * WORKING_PATIENCE } else { self.timeout_us };
        if waited_us > patience_us { Look::Hung } else { Look::Fine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> GuestWatch {
        GuestWatch::new(100_000, 500_000)
    }

    #[test]
    fn an_answered_ping_is_fine_and_an_unanswered_one_is_not() {
        let mut w = watch();
        assert_eq!(w.look(0, 0, 0), Look::Fine, "not up yet");
        w.ready(0);
        assert_eq!(w.look(0, 0, 0), Look::Ping(1));
        assert_eq!(w.look(1_000, 1, 0), Look::Fine);
        assert_eq!(w.look(10_000, 1, 0), Look::Ping(2));
        let hung_at = (11..300).map(|ms| ms * 1000).find(|t| w.look(*t, 1, 0) == Look::Hung);
        assert_eq!(hung_at, Some(111_000));
    }

    #[test]
    fn a_guest_that_does_not_come_up_is_noticed_once_for_each_start() {
        let mut w = watch();
        let not_up = |w: &mut GuestWatch, ms: std::ops::Range<u64>| {
            ms.filter(|ms| w.look(ms * 1000, 0, 0) == Look::NotUp).collect::<Vec<_>>()
        };
        assert_eq!(not_up(&mut w, 0..1_000), [0; 0], "it was not started yet");
        w.started(1_000_000);
        assert_eq!(not_up(&mut w, 1_000..2_000), [1_501]);
        w.started(2_000_000);
        assert_eq!(w.look(5_000_000, 0, 0), Look::Fine, "the own pause is not the guest's fault");
        assert_eq!(not_up(&mut w, 5_001..6_000), [5_501]);
        w.started(6_000_000);
        w.ready(6_100_000);
        assert_eq!(not_up(&mut w, 6_101..6_200), [0; 0]);
        w.down();
        assert_eq!(not_up(&mut w, 6_200..9_000), [0; 0], "nobody has started it");
    }

    #[test]
    fn an_own_pause_is_not_the_guests_fault() {
        let mut w = watch();
        w.ready(0);
        assert_eq!(w.look(0, 0, 0), Look::Ping(1));
        assert_eq!(w.look(500_000, 0, 0), Look::Fine);
        assert_eq!(w.look(510_000, 1, 0), Look::Ping(2));
    }

    #[test]
    fn a_guest_that_works_without_an_answer_is_nudged_before_it_is_hung() {
        let mut w = watch();
        w.ready(0);
        assert_eq!(w.look(0, 0, 500), Look::Ping(1));
        // It has half of a processor.
        let looks: Vec<Look> = (1..500).map(|ms| w.look(ms * 1000, 0, 500 + ms * 500)).collect();
        let nudged: Vec<usize> = (1..500).filter(|ms| looks[ms - 1] == Look::Nudge).collect();
        assert_eq!(nudged, [20, 40, 60, 80, 100, 120, 140]);
        assert_eq!(looks.iter().position(|look| *look == Look::Hung), Some(140), "all nudges were in vain");
    }

    #[test]
    fn a_guest_that_answers_after_a_nudge_is_fine() {
        let mut w = watch();
        w.ready(0);
        assert_eq!(w.look(0, 0, 0), Look::Ping(1));
        let nudges = (1..60).filter(|ms| w.look(ms * 1000, 0, ms * 1000) == Look::Nudge).count();
        assert_eq!(nudges, 5);
        assert_eq!(w.look(60_000, 1, 60_000), Look::Ping(2));
        assert_eq!(w.look(69_000, 1, 69_000), Look::Fine, "nudges are counted anew");
    }

    #[test]
    fn a_guest_that_gets_little_processor_time_is_hung_in_the_end() {
        let mut w = watch();
        w.ready(0);
        assert_eq!(w.look(0, 0, 0), Look::Ping(1));
        let hung_at = (1..1000).find(|ms| w.look(ms * 1000, 0, ms * 100) == Look::Hung);
        assert_eq!(hung_at, Some(401));
    }
}
