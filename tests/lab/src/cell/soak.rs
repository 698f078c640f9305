//! A cell whose hosts fail again and again in ways that a seed chooses, for as long as is asked (T30).

use super::beside::Beside;
use super::clients::Session;
use super::host::CellHost;
use super::random::Random;
use super::scenario::{Lab, SETTLE_MAX};
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a host hangs or is cut off (milliseconds): shorter than the cell takes notice, and longer.
const AWAY_MS: (u64, u64) = (100, 8000);
/// The cell takes notice of a silence of 1 s.
const NOTICED: Duration = Duration::from_millis(1200);
/// Of a hundred rounds so many are on a bad wire, and so many on a narrow path.
const BAD_WIRE: u64 = 35;
const NARROW_PATH: u64 = 25;
/// A round's clients go on for so long before the fault (milliseconds): it may find the cell with or without a second copy of all.
const BEFORE_MS: (u64, u64) = (0, 3000);

/// What happens in a round.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Hung(Duration),
    CutOff(Duration),
    SessionMoved,
    StreamMoved,
}

impl Fault {
    fn choose(random: &mut Random) -> Self {
        match random.below(10) {
            0..3 => Self::Killed,
            3..5 => Self::Hung(random.millis(AWAY_MS.0, AWAY_MS.1)),
            5..8 => Self::CutOff(random.millis(AWAY_MS.0, AWAY_MS.1)),
            8 => Self::SessionMoved,
            _ => Self::StreamMoved,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.write_str("killed"),
            Self::Hung(long) => write!(f, "hung for {:.1} s", long.as_secs_f64()),
            Self::CutOff(long) => write!(f, "cut off for {:.1} s", long.as_secs_f64()),
            Self::SessionMoved => f.write_str("gives a session away"),
            Self::StreamMoved => f.write_str("gives the stream away"),
        }
    }
}

impl Lab<'_> {
    /// Rounds until the time is over; every client goes on through all of them.
    pub(super) fn soak(&mut self, lasts: Duration) -> Result<()> {
        let mut random = Random::new(self.seed());
        self.begin_clients()?;
        let beside = Beside::begin(&self.network.clients, self.seed())?;
        let begun = Instant::now();
        let mut round = 0;
        while begun.elapsed() < lasts {
            round += 1;
            self.round(round, &mut random).with_context(|| format!("round {round}"))?;
            if !beside.go_on() {
                break;
            }
        }
        self.end_clients(beside)
    }

    fn round(&mut self, round: u32, random: &mut Random) -> Result<()> {
        let (bad, narrow) = (random.below(100) < BAD_WIRE, random.below(100) < NARROW_PATH);
        let fault = Fault::choose(random);
        let wire = match (bad, narrow) {
            (false, false) => "",
            (true, false) => ", on a bad wire",
            (false, true) => ", on a narrow path",
            (true, true) => ", on a bad wire of a narrow path",
        };
        self.network.wire.be_bad(bad);
        self.network.wire.be_narrow(narrow);
        let before = random.millis(BEFORE_MS.0, BEFORE_MS.1);
        let begun = Instant::now();
        while begun.elapsed() < before {
            self.use_all(1)?;
        }
        let (victim, failovers) = (self.busiest()?, self.control.failovers(&self.network)?);
        println!("lab: round {round}: host {victim} {fault}{wire}");
        self.happen(victim, fault).with_context(|| format!("host {victim} {fault}{wire}"))?;
        self.check_curl()?;
        self.network.wire.be_bad(false);
        self.network.wire.be_narrow(false);
        self.exchange_session(random)?;
        let longest = self.longest_wait();
        self.wait_for_guests()?;
        self.use_all(2)?;
        let failover = match self.control.failovers(&self.network)?.saturating_sub(failovers) {
            0 => "nobody was replaced".to_owned(),
            1 => self.control.last_failover(&self.network)?,
            more => format!("{more} failovers, the last: {}", self.control.last_failover(&self.network)?),
        };
        self.steps
            .passed(&format!("round {round}: host {victim} {fault}{wire}; longest wait {longest:.1} s ({failover})"));
        Ok(())
    }

    fn happen(&mut self, victim: u16, fault: Fault) -> Result<()> {
        match fault {
            Fault::Killed => {
                self.kill_host(victim)?;
                self.use_all(3)?;
                self.start_host_again(victim)?;
                self.wait_for_guest(victim, 0).map(drop)
            }
            Fault::Hung(long) => {
                self.host(victim)?.process().signal(libc::SIGSTOP)?;
                let begun = Instant::now();
                let outcome = self.use_during(long);
                sleep(long.saturating_sub(begun.elapsed()));
                self.host(victim)?.process().signal(libc::SIGCONT)?;
                outcome?;
                self.use_all(3)
            }
            Fault::CutOff(long) => {
                let wires = self.host(victim)?.wires();
                self.network.cut(wires, true)?;
                let begun = Instant::now();
                let outcome = self.use_during(long);
                sleep(long.saturating_sub(begun.elapsed()));
                self.network.cut(wires, false)?;
                outcome?;
                self.use_all(3)
            }
            Fault::SessionMoved => {
                let client = self.session()?.client()?;
                self.move_while(&client, |lab| lab.session()?.count()).map(drop)
            }
            Fault::StreamMoved => {
                let client = self.stream()?.client()?;
                self.move_while(&client, |lab| lab.stream()?.go_on(4_000).map(drop)).map(drop)
            }
        }
    }

    /// Clients go on while a host is away, if that is long enough to be noticed: until then nobody else serves those of that host.
    fn use_during(&mut self, long: Duration) -> Result<()> {
        if long < NOTICED { Ok(()) } else { self.use_all(3) }
    }

    /// Waits until every node has a guest that serves, and all slices have two copies. A host that was away joins at once, and keeps copies, but
    /// until its guest has booted it is no help: a fault of the other one would last as long.
    fn wait_for_guests(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.control.wait_settled(&self.network, SETTLE_MAX)?;
            if self.hosts.values().all(CellHost::has_guest) {
                return Ok(());
            }
            ensure!(begun.elapsed() < SETTLE_MAX, "a guest does not come up");
            sleep(Duration::from_millis(250));
        }
    }

    /// One session ends, and another one begins.
    fn exchange_session(&mut self, random: &mut Random) -> Result<()> {
        let session = Session::open(&self.network.clients)?;
        let at = usize::try_from(random.below(self.sessions.len() as u64)).context("a number")?;
        let place = self.sessions.get_mut(at).context("a session")?;
        let rest = std::mem::replace(place, session).end()?;
        ensure!(rest == 0, "{rest} bytes that nobody asked for");
        Ok(())
    }
}
