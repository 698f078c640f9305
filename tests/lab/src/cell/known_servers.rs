//! Known servers in the cell's guests: the host of most of their sessions dies, in the middle of downloads. All the time the guests' agents are
//! killed.

use super::clients::{HTTP, STREAM, Session, begin_curl};
use super::scenario::Lab;
use super::server_image::{LARGE, TEXT};
use anyhow::{Context, Result, ensure};
use escape_session::pattern;
use std::thread::sleep;
use std::time::Duration;

/// Keep-alive connections to each server.
const SESSIONS: usize = 4;
/// Downloads from lighttpd that are under way when the host dies.
const DOWNLOADS: usize = 4;
/// Bytes a second of each, so that they last longer than what happens to the host.
const RATE: &str = "700k";
/// How long they have been under way by then.
const UNDER_WAY: Duration = Duration::from_secs(2);

impl Lab<'_> {
    /// lighttpd, ported, goes on in the middle of responses; nginx, unmodified, between requests.
    pub(super) fn run_known_servers(&mut self) -> Result<()> {
        for host in [1, 2] {
            self.wait_for_guest(host, 0)?;
        }
        self.steps.passed("two hosts run a node and a Debian guest with lighttpd and nginx each, groups are paired");
        let mut sessions = Vec::new();
        for service in [HTTP, STREAM] {
            for _ in 0..SESSIONS {
                sessions.push(Session::open_at(&self.network.clients, service)?);
            }
        }
        use_all(&mut sessions)?;
        self.steps.passed("lighttpd and nginx serve keep-alive connections");
        let client = sessions.last().context("a session")?.client()?;
        let told = self.move_while(&client, |_| use_all(&mut sessions))?;
        let to = told.get("to").and_then(serde_json::Value::as_u64).context("where to")?;
        use_all(&mut sessions)?;
        self.steps.passed(&format!("a connection of nginx was moved to host {to}"));
        self.control.wait_settled(&self.network, super::scenario::SETTLE_MAX)?;
        let downloads: Vec<_> =
            (0..DOWNLOADS).map(|_| begin_curl(&self.network.clients, "/large", RATE)).collect::<Result<_>>()?;
        sleep(UNDER_WAY);
        let victim = self.control.busiest_node(&self.network)?;
        self.kill_host(victim)?;
        use_all(&mut sessions).with_context(|| format!("host {victim} was killed"))?;
        let longest = sessions.iter().map(|session| session.longest).max().unwrap_or_default();
        for download in downloads {
            let got = download.wait_with_output().context("curl")?;
            let said = String::from_utf8_lossy(&got.stderr).into_owned();
            ensure!(got.status.success(), "a download over the death of host {victim}: {said}");
            let wrong = pattern::count_wrong(&got.stdout, 0);
            ensure!(got.stdout.len() == LARGE && wrong == 0, "{} of {LARGE} bytes, {wrong} wrong", got.stdout.len());
        }
        use_all(&mut sessions)?;
        self.steps.passed(&format!(
            "host {victim} was killed: {DOWNLOADS} downloads of {LARGE} bytes from lighttpd and {} connections of both servers went on; \
             longest wait for a reply {:.1} s",
            sessions.len(),
            longest.as_secs_f64()
        ));
        let ended: usize = self.hosts.values().map(super::host::CellHost::agents_ended).sum();
        ensure!(ended > 0, "no agent of the host that is left was killed");
        self.steps.passed(&format!("the agent of the guest that is left was killed {ended} times meanwhile"));
        Ok(())
    }
}

fn use_all(sessions: &mut [Session]) -> Result<()> {
    for session in sessions {
        let text = session.get("/text")?;
        ensure!(text == TEXT, "a server says {text:?}");
    }
    Ok(())
}
