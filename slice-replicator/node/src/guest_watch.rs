//! Is the guest alive? Pings through the control pages, answered by its main loop.

use escape_engine::Micros;

/// Time between pings, microseconds: an idle guest is woken this often and no more.
const PING_EVERY_US: u64 = 10_000;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Fine,
    /// Raise the ping to this number.
    Ping(u64),
    /// No answer for too long: the guest hangs.
    Hung,
}

/// Watches one life of a guest.
#[derive(Debug)]
pub struct GuestWatch {
    timeout_us: u64,
    number: u64,
    asked_at: Option<Micros>,
    next_at: Micros,
    running: bool,
    looked_at: Micros,
}

impl GuestWatch {
    /// A watch with this patience.
    pub const fn new(timeout_us: u64) -> Self {
        Self { timeout_us, number: 0, asked_at: None, next_at: 0, running: false, looked_at: 0 }
    }

    /// The guest said that it is up.
    pub const fn ready(&mut self, now: Micros) {
        (self.running, self.number, self.asked_at, self.next_at) = (true, 0, None, now);
    }

    /// The guest is down; nothing is expected of it.
    pub const fn down(&mut self) {
        self.running = false;
    }

    /// Looks at the guest's last answer.
    pub fn look(&mut self, now: Micros, pong: u64) -> Look {
        if !self.running {
            return Look::Fine;
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
            Some(at) if now.saturating_sub(at) > self.timeout_us => return Look::Hung,
            Some(_) => return Look::Fine,
            None => {}
        }
        if now < self.next_at {
            return Look::Fine;
        }
        self.number += 1;
        self.next_at = now + PING_EVERY_US;
        self.asked_at = Some(now);
        Look::Ping(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answered_ping_is_fine_and_an_unanswered_one_is_not() {
        let mut w = GuestWatch::new(100_000);
        assert_eq!(w.look(0, 0), Look::Fine, "not up yet");
        w.ready(0);
        assert_eq!(w.look(0, 0), Look::Ping(1));
        assert_eq!(w.look(1_000, 1), Look::Fine);
        assert_eq!(w.look(10_000, 1), Look::Ping(2));
        let hung_at = (11..300).map(|ms| ms * 1000).find(|t| w.look(*t, 1) == Look::Hung);
        assert_eq!(hung_at, Some(111_000));
    }

    #[test]
    fn an_own_pause_is_not_the_guests_fault() {
        let mut w = GuestWatch::new(100_000);
        w.ready(0);
        assert_eq!(w.look(0, 0), Look::Ping(1));
        assert_eq!(w.look(500_000, 0), Look::Fine);
        assert_eq!(w.look(510_000, 1), Look::Ping(2));
    }
}
