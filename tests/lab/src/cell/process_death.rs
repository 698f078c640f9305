//! The process of a service dies, and nothing else: its sessions end with a reset that their clients hear, also those that it owed an answer
//! to, and the one in whose turn it died (T14). Sessions on the other host do not notice.

use super::clients::Session;
use super::scenario::Lab;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// By then the process has read that it is to end, and reads nothing more.
const STANDS_STILL: Duration = Duration::from_millis(300);
/// A client hears the reset within this.
const RESET_MAX: Duration = Duration::from_secs(10);
/// By then the guest has started the process again, and it serves.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// Sessions of the process beside the one that ends it.
const SESSIONS: usize = 4;

impl Lab<'_> {
    /// Every second session of the process has a request under way, which the process does not read any more.
    pub(super) fn process_dies(&mut self) -> Result<()> {
        let node = self.busiest()?;
        let (mut of_process, mut others) = (Vec::new(), Vec::new());
        for mut session in std::mem::take(&mut self.sessions) {
            if session.node()? == node { of_process.push(session) } else { others.push(session) }
        }
        while of_process.len() <= SESSIONS {
            of_process.push(self.open_at_node(node)?);
        }
        let mut asks = of_process.pop().context("a session")?;
        asks.begin("POST /fault?kind=exit HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n\r\n")?;
        // It stands still before it ends; requests of the same moment it may still answer.
        std::thread::sleep(STANDS_STILL);
        for session in of_process.iter_mut().step_by(2) {
            session.begin("GET /session HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        }
        let (begun, ended) = (Instant::now(), of_process.len() + 1);
        for (number, session) in of_process.into_iter().enumerate() {
            let had = if number % 2 == 0 { "a request under way" } else { "nothing under way" };
            session.wait_for_reset(RESET_MAX).with_context(|| format!("a session with {had}"))?;
        }
        // Its slice was torn and given up: it is told when it says its request again.
        asks.wait_for_reset(RESET_MAX).context("the session in whose turn the process ended")?;
        let heard = begun.elapsed().as_secs_f64();
        others.iter_mut().try_for_each(Session::count)?;
        let mut again = self.open_at_node(node)?;
        again.count()?;
        self.sessions = others;
        self.steps.passed(&format!(
            "the service's process on host {node} died: {ended} clients heard a reset within {heard:.1} s, nobody else noticed, and it serves again"
        ));
        Ok(())
    }

    /// A new session that this node serves.
    fn open_at_node(&self, node: u16) -> Result<Session> {
        let begun = Instant::now();
        loop {
            let mut session = Session::open(&self.network.clients)?;
            // A process that is not up yet resets it.
            if session.node().is_ok_and(|at| at == node) {
                return Ok(session);
            }
            ensure!(begun.elapsed() < AGAIN_MAX, "host {node} serves no new session");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
