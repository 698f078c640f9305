//! Full copies for new standbys keep to their share of the link, and sessions go on meanwhile.

use super::cells_run_here;
use super::patience::patient;
use super::session::Session;
use escape::cell::{CellPlan, LocalCell};
use escape::config::Quotas;
use escape::drill::{Cell, Fault};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SESSIONS: u32 = 300;
/// State of each session, bytes, beside its TCP socket.
const STATE: u32 = 4096;
/// A fifth of 10 Mbit/s: 250 bytes a millisecond.
const LINK_MBIT: u32 = 10;
const BULK_PERCENT: u8 = 20;
const BYTES_PER_S: f64 = 250_000.0;
/// Copies that may be on their way at once: four groups with four each. So many may go beyond the share for a moment.
const AT_ONCE: u64 = 16;
/// Groups of three nodes.
const GROUPS: u64 = 48;
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// A node dies; the others copy what lost its standby, and take as long for it as their share of the link needs.
pub fn keeps_to_its_share() {
    if !cells_run_here("the share of bulk copies") {
        return;
    }
    let quotas = Quotas { link_mbit: LINK_MBIT, bulk_percent: BULK_PERCENT, ..Quotas::default() };
    // While slices rest on one copy, a node that is only slow must not be taken for a dead one.
    let mut cell = LocalCell::start(CellPlan { timings: patient(), quotas, ..CellPlan::new(SESSIONS) }).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let (clients, service) = (cell.network().clients.try_clone().unwrap(), cell.service_addresses().http);
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::open(&clients, service)).collect();
    sessions.iter_mut().for_each(|session| session.dirty(STATE));
    let dead = busiest(&mut sessions);
    let survivors = [(dead + 1) % 3, (dead + 2) % 3];
    let before = survivors.map(|node| Copies::of(&mut cell, node));
    let over = AtomicBool::new(false);
    let taken = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                sessions.iter_mut().for_each(Session::count);
            }
        });
        let begun = Instant::now();
        // The load must end whatever fails here.
        let settled = cell.inject(dead, Fault::Kill).and_then(|_| {
            wait_taken_over(&mut cell, survivors, begun);
            cell.wait_reprotected(SETTLE_MAX)
        });
        over.store(true, Ordering::Relaxed);
        settled.map(|_| begun.elapsed())
    });
    let taken = taken.unwrap();
    let longest = sessions.iter().map(|session| session.longest).max().unwrap();
    println!("protected again after {taken:?}; longest wait for a reply {longest:?}");
    // Nodes that joined early stand by for each other: one of the two may have nothing to copy.
    let sent = [0, 1].map(|n| Copies::of(&mut cell, survivors[n]).since(before[n]));
    cell.shutdown();
    println!("  {sent:?}");
    let most = sent.into_iter().max_by_key(|copies| copies.number).unwrap();
    assert!(most.number > 3 * AT_ONCE && most.pauses > 0, "too few copies to tell: {sent:?}");
    for copies in sent {
        let least = copies.time_needed();
        assert!(taken >= least, "{copies:?} in {taken:?}, not in {least:?} at least");
    }
}

/// The node with the most sessions.
fn busiest(sessions: &mut [Session]) -> u16 {
    let mut served = [0; 3];
    for session in sessions {
        served[usize::from(session.node())] += 1;
    }
    (0..3).max_by_key(|node| served[usize::from(*node)]).unwrap()
}

/// Before that everything looks protected still.
fn wait_taken_over(cell: &mut LocalCell, survivors: [u16; 2], begun: Instant) {
    let owned = |cell: &mut LocalCell| survivors.map(|node| cell.status(node).map_or(0, |status| status.groups));
    while owned(cell).iter().sum::<u64>() < GROUPS && begun.elapsed() < SETTLE_MAX {
        thread::sleep(Duration::from_millis(1));
    }
}

/// What a node has sent as full copies.
#[derive(Clone, Copy, Debug)]
struct Copies {
    number: u64,
    bytes: u64,
    pauses: u64,
}

impl Copies {
    fn of(cell: &mut LocalCell, node: u16) -> Self {
        let status = cell.ask(node, "status").unwrap();
        let metric = |name: &str| status["metrics"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {status}"));
        Self { number: metric("full_copies"), bytes: metric("full_copy_bytes"), pauses: metric("bulk_pauses") }
    }

    /// What their share of the link needs at least.
    fn time_needed(self) -> Duration {
        let beyond = self.bytes / self.number.max(1) * AT_ONCE * 5 / 4;
        Duration::from_secs_f64(self.bytes.saturating_sub(beyond) as f64 / BYTES_PER_S)
    }

    fn since(self, before: Self) -> Self {
        Self {
            number: self.number - before.number,
            bytes: self.bytes - before.bytes,
            pauses: self.pauses - before.pauses,
        }
    }
}
