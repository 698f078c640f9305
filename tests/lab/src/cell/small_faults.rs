//! Faults for which nobody is replaced.

use super::clients::Session;
use super::scenario::{Lab, SETTLE_MAX};
use anyhow::{Context, Result, ensure};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A host stands still for less than the cell's limit (1 s).
const STANDSTILL: Duration = Duration::from_millis(500);
/// Segments that clients get twice meanwhile: a retransmission of each connection or two, and those of a moment of the stream.
const TWICE_MAX: u64 = 64;

impl Lab<'_> {
    /// What the other host sends out waits for this one, suddenly for much longer than its kernel is used to (T5).
    pub(super) fn stand_still_for_a_moment(&mut self) -> Result<()> {
        let (failovers, twice) = (self.control.failovers(&self.network)?, self.network.segments_twice()?);
        let busiest = self.busiest()?;
        let standby = *self.hosts.keys().find(|host| **host != busiest).context("another host")?;
        self.longest_wait();
        // Requests to both hosts, whose answers wait: they are read when the host goes on.
        self.host(standby)?.process().signal(libc::SIGSTOP)?;
        let asked = self.sessions.iter_mut().try_for_each(Session::begin_count);
        sleep(STANDSTILL);
        self.host(standby)?.process().signal(libc::SIGCONT)?;
        asked?;
        self.sessions.iter_mut().try_for_each(Session::end_count)?;
        self.use_all(3)?;
        self.control.wait_settled(&self.network, SETTLE_MAX)?;
        let twice = self.network.segments_twice()?.saturating_sub(twice);
        if self.control.failovers(&self.network)? > failovers {
            self.steps
                .passed(&format!("host {standby} stood still for 0.5 s; this machine is so slow that it was replaced"));
            return Ok(());
        }
        ensure!(twice <= TWICE_MAX, "host {standby} stood still for 0.5 s: clients got {twice} segments twice");
        let longest = self.longest_wait();
        self.steps.passed(&format!(
            "host {standby}, the standby of most, stood still for 0.5 s and was not replaced; longest wait {longest:.1} s, clients got {twice} \
             segments twice"
        ));
        Ok(())
    }

    /// Large frames for clients vanish, and nobody is told (T27).
    pub(super) fn narrow_the_path(&mut self) -> Result<()> {
        self.network.wire.be_narrow(true);
        let begun = Instant::now();
        let outcome = self.check_curl();
        let vanished = self.network.wire.be_narrow(false);
        outcome.context("on a path that takes 1,280 bytes and does not say so")?;
        ensure!(vanished > 0, "no frame was too large for the narrow path");
        self.steps.passed(&format!(
            "on a path that takes 1,280 bytes and does not say so, {vanished} frames vanished, and curl got all after {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
        Ok(())
    }
}
