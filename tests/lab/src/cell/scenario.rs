//! What happens to the cell.

use super::beside::Beside;
use super::clients::{Session, Stream, curl};
use super::control::Control;
use super::host::CellHost;
use super::network::Network;
use crate::host::{Image, Kind};
use crate::steps::Steps;
use anyhow::{Context, Result, ensure};
use escape_session::pattern;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Hosts up, guests booted, groups paired.
pub(super) const SETTLE_MAX: Duration = Duration::from_secs(150);
/// Sessions beside the stream.
const SESSIONS: usize = 6;
/// Bytes of the stream around each fault, each way.
const STREAM_BYTES: u64 = 200_000;
/// How long a host hangs, or is cut off.
const AWAY: Duration = Duration::from_secs(6);

/// What the cell is made of.
#[derive(Clone, Copy, Debug)]
pub struct CellParts<'a> {
    /// What its hosts are.
    pub kind: Kind,
    /// Of everything that is left to chance.
    pub seed: u64,
    /// The `escape` program.
    pub escape: &'a Path,
    /// Directory of the guest's image.
    pub guest: &'a Path,
    /// Directory of an emulated host's image.
    pub host: &'a Path,
}

/// A cell of two hosts, and clients that do not notice what happens to them.
pub(super) struct Lab<'a> {
    parts: CellParts<'a>,
    directory: PathBuf,
    pub(super) network: Network,
    pub(super) control: Control,
    pub(super) hosts: BTreeMap<u16, CellHost>,
    pub(super) sessions: Vec<Session>,
    stream: Option<Stream>,
    pub(super) steps: Steps,
}

/// Kills a host, lets one hang, cuts one off; sessions, a stream and `curl` go on. Returns the number of steps.
pub fn fail_over(parts: CellParts<'_>, verbose: bool) -> Result<u32> {
    in_directory(|directory| play(parts, directory, verbose, |lab| lab.run()))
}

/// The same clients, for so long, while hosts fail as the seed says. Returns the number of steps.
pub fn fail_over_for(parts: CellParts<'_>, lasts: Duration, verbose: bool) -> Result<u32> {
    in_directory(|directory| play(parts, directory, verbose, |lab| lab.soak(lasts)))
}

/// Kills a host under servers that are known elsewhere, whose image is that of the guests ([`super::Servers::image`]). Returns the number of steps.
pub fn serve_known(parts: CellParts<'_>, verbose: bool) -> Result<u32> {
    in_directory(|directory| play(parts, directory, verbose, |lab| lab.run_known_servers()))
}

/// With a directory that is gone afterwards.
pub fn in_directory<T>(work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    // One may be made within another.
    let name = |n: u32| std::env::temp_dir().join(format!("escape-lab-cell-{}-{n}", std::process::id()));
    let directory = (0..).map(name).find(|directory| !directory.exists()).context("a name")?;
    std::fs::create_dir_all(&directory).context("a directory for the lab")?;
    let outcome = work(&directory);
    let _ = std::fs::remove_dir_all(&directory);
    outcome
}

fn play(
    parts: CellParts<'_>,
    directory: &Path,
    verbose: bool,
    act: impl FnOnce(&mut Lab<'_>) -> Result<()>,
) -> Result<u32> {
    let mut lab = Lab::start(parts, directory)?;
    let outcome = act(&mut lab);
    if outcome.is_err() || verbose {
        lab.tell_all();
    }
    outcome.map(|()| lab.steps.done())
}

impl<'a> Lab<'a> {
    fn start(parts: CellParts<'a>, directory: &Path) -> Result<Self> {
        let steps = Steps::begin();
        println!("lab: what is left to chance has the seed {0}: --seed {0}", parts.seed);
        let mut network = Network::new(parts.seed).context("the lab's networks (needs root)")?;
        let image = directory.join("guest.toml");
        let Image { kernel, initrd } = Image::in_directory(parts.guest)?;
        let file = format!(
            "kernel = {kernel:?}\ninitrd = {initrd:?}\ncmdline = \"console=ttyS0 quiet cryptomgr.notests mitigations=off \
             random.trust_cpu=on no_timer_check panic=-1 reboot=k\"\n"
        );
        std::fs::write(&image, file).context("the guest's image file")?;
        let control = Control::start(parts.escape, &image, directory, &network)?;
        let mut hosts = BTreeMap::new();
        for number in [1, 2] {
            hosts.insert(number, start_host(parts, number, &mut network, &control, directory)?);
        }
        let directory = directory.to_owned();
        Ok(Self { parts, directory, network, control, hosts, sessions: Vec::new(), stream: None, steps })
    }

    pub(super) const fn seed(&self) -> u64 {
        self.parts.seed
    }

    fn run(&mut self) -> Result<()> {
        self.begin_clients()?;
        let beside = Beside::begin(&self.network.clients, self.seed())?;
        self.move_and_back()?;
        self.stand_still_for_a_moment()?;
        self.narrow_the_path()?;
        self.kill()?;
        self.hang()?;
        self.partition()?;
        self.end_clients(beside)?;
        self.process_dies()
    }

    /// Guests come up, clients of all kinds connect, and everything has two copies.
    pub(super) fn begin_clients(&mut self) -> Result<()> {
        for host in [1, 2] {
            self.wait_for_guest(host, 0)?;
        }
        self.steps.passed("two hosts run a node and a Debian guest each, groups are paired");
        let mut kinds = BTreeSet::new();
        for number in 0..SESSIONS {
            let session = Session::open(&self.network.clients)?;
            kinds.insert(session.be_of_kind(number)?);
            self.sessions.push(session);
        }
        self.stream = Some(Stream::open(&self.network.clients)?);
        self.use_all(5)?;
        let kinds = Vec::from_iter(kinds).join(", ");
        self.steps
            .passed(&format!("six sessions ({kinds}) and a stream are served by Debian guests; all clients offer ECN"));
        self.check_curl()?;
        self.steps.passed("curl gets 300,000 checked bytes");
        self.control.wait_settled(&self.network, SETTLE_MAX).map(drop)
    }

    /// Nobody has met anything wrong.
    pub(super) fn end_clients(&mut self, beside: Beside) -> Result<()> {
        let done = beside.end()?;
        self.steps.passed(&format!(
            "somebody typed {} keys through all of it, each answered once; longest wait {:.1} s",
            done.typed.count,
            done.typed.longest.as_secs_f64()
        ));
        self.steps.passed(&format!(
            "somebody opened {} connections meanwhile, asked, and closed them; longest wait {:.1} s",
            done.called.count,
            done.called.longest.as_secs_f64()
        ));
        let (sent, received) = self.stream.take().context("the stream")?.end()?;
        self.steps.passed(&format!("the stream ends with {sent} bytes one way and {received} the other, all right"));
        if let Some(firewall) = &self.network.firewall {
            let judged = firewall.judged(&self.network.clients)?;
            ensure!(judged.established > 0, "the clients' firewall has seen nothing: {judged:?}");
            self.steps.passed(&format!(
                "the clients' firewall, which tracks connections, let in {} frames; {} were impossible to it, {} of no connection",
                judged.established, judged.impossible, judged.unknown
            ));
        }
        Ok(())
    }

    /// One live connection is moved to the other host and back, while its client uses it: a session, and the stream.
    fn move_and_back(&mut self) -> Result<()> {
        for _ in 0..2 {
            let client = self.sessions.first().context("a session")?.client()?;
            let told = self.move_while(&client, |lab| lab.session()?.count())?;
            let at = self.session()?.node()?;
            ensure!(told.get("to").and_then(Value::as_u64) == Some(at.into()), "served by {at}, but {told}");
            let longest = std::mem::take(&mut self.session()?.longest).as_secs_f64();
            self.use_all(2)?;
            self.steps
                .passed(&format!("a session was moved to host {at} between two requests; longest wait {longest:.2} s"));
        }
        for _ in 0..2 {
            let client = self.stream()?.client()?;
            let told = self.move_while(&client, |lab| lab.stream()?.go_on(4_000).map(drop))?;
            self.use_all(2)?;
            let to = told.get("to").and_then(Value::as_u64).context("where to")?;
            self.steps.passed(&format!("the stream was moved to host {to} in the middle of its bytes"));
        }
        Ok(())
    }

    pub(super) fn session(&mut self) -> Result<&mut Session> {
        self.sessions.first_mut().context("a session")
    }

    pub(super) fn stream(&mut self) -> Result<&mut Stream> {
        self.stream.as_mut().context("the stream")
    }

    pub(super) fn host(&self, number: u16) -> Result<&CellHost> {
        self.hosts.get(&number).with_context(|| format!("host {number}"))
    }

    /// Moves the session of a client that goes on meanwhile.
    pub(super) fn move_while(
        &mut self,
        client: &str,
        mut goes_on: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<Value> {
        let mut command = self.control.begin_move(&self.network, client)?;
        while command.try_wait().context("escape move")?.is_none() {
            if let Err(error) = goes_on(self) {
                let _ = command.kill();
                return Err(error.context(format!("{client} is being moved")));
            }
        }
        let told = command.wait_with_output().context("escape move")?;
        goes_on(self).with_context(|| format!("{client} was moved"))?;
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        ensure!(told.status.success(), "escape move {client}: {text}");
        serde_json::from_str(&text).context(text)
    }

    /// One host less.
    pub(super) fn kill_host(&mut self, host: u16) -> Result<()> {
        self.hosts.remove(&host).context("a host")?.die(&mut self.network)
    }

    /// Another one in its place.
    pub(super) fn start_host_again(&mut self, number: u16) -> Result<()> {
        let host = start_host(self.parts, number, &mut self.network, &self.control, &self.directory)?;
        self.hosts.insert(number, host);
        Ok(())
    }

    /// A host dies; another takes its place.
    fn kill(&mut self) -> Result<()> {
        let victim = self.busiest()?;
        self.kill_host(victim)?;
        self.go_on_without(victim, "was killed")?;
        self.start_host_again(victim)?;
        let took = self.wait_for_guest(victim, 0)?;
        self.use_all(2)?;
        let took = took.as_secs_f64();
        self.steps.passed(&format!("host {victim} is there again: two copies of all and a guest up after {took:.0} s"));
        Ok(())
    }

    /// Waits until one more guest than that has come up on a host, and all slices have two copies.
    pub(super) fn wait_for_guest(&self, host: u16, before: usize) -> Result<Duration> {
        let begun = Instant::now();
        while self.host(host)?.guests_ready() <= before {
            ensure!(begun.elapsed() < SETTLE_MAX, "no guest came up on host {host}");
            sleep(Duration::from_millis(100));
        }
        self.control.wait_settled(&self.network, SETTLE_MAX)?;
        Ok(begun.elapsed())
    }

    /// A host stands still, is given up, and wakes up again.
    fn hang(&mut self) -> Result<()> {
        let victim = self.busiest()?;
        let host = self.host(victim)?;
        let guests = host.guests_ready();
        host.process().signal(libc::SIGSTOP)?;
        let begun = Instant::now();
        self.go_on_without(victim, "hung")?;
        sleep(AWAY.saturating_sub(begun.elapsed()));
        self.host(victim)?.process().signal(libc::SIGCONT)?;
        self.use_all(5)?;
        // It joins anew, with a new guest.
        self.wait_for_guest(victim, guests)?;
        self.use_all(2)?;
        self.steps.passed(&format!("host {victim} went on after that, and nobody heard two answers"));
        Ok(())
    }

    /// A host is cut off from everything, while its clients' network is a bad one, and comes back.
    fn partition(&mut self) -> Result<()> {
        let victim = self.busiest()?;
        let host = self.host(victim)?;
        let (wires, guests) = (host.wires(), host.guests_ready());
        self.network.wire.be_bad(true);
        self.use_all(1)?;
        self.network.cut(wires, true)?;
        let begun = Instant::now();
        self.go_on_without(victim, "was cut off, on a bad wire")?;
        let lost = self.network.wire.be_bad(false);
        ensure!(lost > 0, "the bad wire has lost nothing");
        self.steps.passed(&format!("the clients' wire lost {lost} frames meanwhile, doubled and delayed others"));
        sleep(AWAY.saturating_sub(begun.elapsed()));
        self.network.cut(wires, false)?;
        self.use_all(5)?;
        // It joins anew, with a new guest.
        self.wait_for_guest(victim, guests)?;
        self.use_all(2)?;
        self.steps.passed(&format!("host {victim} is joined again, and nobody heard two answers"));
        Ok(())
    }

    /// All clients are served, and none by the host that is away.
    fn go_on_without(&mut self, victim: u16, what: &str) -> Result<()> {
        self.longest_wait();
        self.use_all(5).with_context(|| format!("host {victim} {what}"))?;
        let served = self.places()?;
        ensure!(!served.contains_key(&victim), "host {victim} {what} and serves: {served:?}");
        let longest = self.longest_wait();
        self.check_curl()?;
        self.steps.passed(&format!(
            "host {victim} {what}: all sessions and the stream went on; longest wait {longest:.1} s ({})",
            self.control.last_failover(&self.network)?
        ));
        Ok(())
    }

    pub(super) fn use_all(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            self.sessions.iter_mut().try_for_each(Session::count)?;
        }
        match &mut self.stream {
            Some(stream) => stream.go_on(STREAM_BYTES).map(drop),
            None => Ok(()),
        }
    }

    /// The longest wait of a session since the last look, seconds.
    pub(super) fn longest_wait(&mut self) -> f64 {
        let waits = self.sessions.iter_mut().map(|session| std::mem::take(&mut session.longest));
        waits.max().unwrap_or_default().as_secs_f64()
    }

    pub(super) fn check_curl(&self) -> Result<()> {
        const BYTES: usize = 300_000;
        let got = curl(&self.network.clients, &format!("/bytes?n={BYTES}"))?;
        ensure!(got.len() == BYTES && pattern::count_wrong(&got, 0) == 0, "curl got {} bytes, some wrong", got.len());
        Ok(())
    }

    /// Sessions by the node that serves them.
    pub(super) fn places(&mut self) -> Result<BTreeMap<u16, usize>> {
        let mut served = BTreeMap::new();
        for session in &mut self.sessions {
            *served.entry(session.node()?).or_default() += 1;
        }
        Ok(served)
    }

    pub(super) fn busiest(&mut self) -> Result<u16> {
        let served = self.places()?;
        served.iter().max_by_key(|(_, count)| **count).map(|(node, _)| *node).context("no sessions")
    }

    /// For who looks for the cause of a failure.
    fn tell_all(&self) {
        eprintln!("{}", self.control.tails());
        for (number, host) in &self.hosts {
            eprintln!("== host {number}\n{}", host.process().tail(6000));
        }
        eprintln!("== status\n{:#?}", self.control.status(&self.network));
        eprintln!("== the clients' connections\n{}", self.network.clients_connections());
    }
}

fn start_host(
    parts: CellParts<'_>,
    number: u16,
    network: &mut Network,
    control: &Control,
    directory: &Path,
) -> Result<CellHost> {
    CellHost::start(number, network, parts, &control.node_directory(number), directory)
}
