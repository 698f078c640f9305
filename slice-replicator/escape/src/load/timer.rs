//! A timer that wakes the poll loop with microsecond precision (epoll's own timeout counts milliseconds, which would
//! make every request up to one millisecond late).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// One timerfd on CLOCK_MONOTONIC.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// A timer whose expiry is an event with `token`.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd })
    }

    /// Expires once in `in_us` microseconds, at least one: zero would disarm it. Replaces an earlier setting; setting
    /// it also clears an expiry that nobody read, so the descriptor needs no reading.
    pub fn set(&self, in_us: u64) -> io::Result<()> {
        let in_us = in_us.clamp(1, 3_600_000_000);
        let it_value = Timespec { tv_sec: (in_us / 1_000_000) as i64, tv_nsec: (in_us % 1_000_000 * 1_000) as i64 };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        Ok(())
    }
}
