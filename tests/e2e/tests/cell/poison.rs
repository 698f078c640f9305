//! A request that breaks the guest while it works on its slice: that one session is lost, no other notices, the guest lives.

use super::cells_run_here;
use super::patience::patient;
use super::session::{Session, SessionEnd};
use escape::cell::{CellPlan, LocalCell};
use escape::drill::Cell;
use std::time::Duration;

const SESSIONS: usize = 200;
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// How long a lost session is given to answer after all.
const SILENCE: Duration = Duration::from_secs(2);
/// Requests of every session before, and after.
const TIMES: usize = 2;
/// What happens in the guest: a panic, an exception of the processor, a loop that does not end.
const KINDS: [&str; 3] = ["panic", "null", "loop"];

/// One session in two hundred, three times.
pub fn one_session_is_lost() {
    if !cells_run_here("a poison request") {
        return;
    }
    let plan = CellPlan { cmdline: "faults=on".into(), timings: patient(), ..CellPlan::new(SESSIONS as u32) };
    let mut cell = LocalCell::start(plan).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let clients = cell.network().clients.try_clone().unwrap();
    let service = cell.service_addresses().http;
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::open(&clients, service)).collect();
    count_all(&mut sessions);
    for (lost, kind) in (0..).zip(KINDS) {
        let mut poisoner = sessions.swap_remove(sessions.len() / 2);
        let node = poisoner.node();
        let before = Losses::of(&mut cell);
        poisoner.send(&format!("POST /fault?kind={kind} HTTP/1.1\r\nHost: e2e\r\nContent-Length: 0\r\n\r\n"));
        sessions.iter_mut().for_each(|session| session.longest = Duration::ZERO);
        count_all(&mut sessions);
        let end = poisoner.wait_for_end(SILENCE);
        count_all(&mut sessions);
        let after = Losses::of(&mut cell);
        let longest = sessions.iter().map(|session| session.longest).max().unwrap_or_default();
        println!(
            "{kind} on node {node}: {lost} lost before; that session: {end:?}; longest wait of the others {longest:?}"
        );
        assert_eq!(end, SessionEnd::Reset, "its client need not wait");
        assert_eq!(after.quarantined, before.quarantined + 1, "{kind}: exactly one slice is lost");
        assert_eq!(after.guests_down, before.guests_down, "{kind}: the guest lives");
        let still: Vec<u16> = (0..3).filter(|node| cell.status(*node).unwrap().is_settled()).collect();
        assert_eq!(still, [0, 1, 2], "{kind}: every node has its standbys");
    }
    cell.shutdown();
}

fn count_all(sessions: &mut [Session]) {
    for _ in 0..TIMES {
        sessions.iter_mut().for_each(Session::count);
    }
}

/// What the three nodes have lost so far.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    quarantined: u64,
    guests_down: u64,
}

impl Losses {
    fn of(cell: &mut LocalCell) -> Self {
        let mut losses = Self::default();
        for node in 0..3 {
            let told = cell.ask(node, "counters").unwrap();
            let down = told["node"]["guest_down"].as_u64();
            losses.guests_down += down.unwrap_or_else(|| panic!("no guest_down in {told}"));
            // The valve's count: a standby that drops its image counts among the node's own.
            let valve = told["metrics"]["escape_valve_slices_quarantined_total"].as_u64();
            losses.quarantined += valve.unwrap_or_else(|| panic!("no such figure in {told}"));
        }
        losses
    }
}
