//! A cell on three hosts from its replication file alone: `escape cell init`, each directory copied to its host, processes
//! started there by the commands that it told. Sessions outlive the kill of two nodes, one after the other.

use super::cells_run_here;
use super::hosts_cell::{HostsCell, SERVICE};
use super::hosts_network::HostsNetwork;
use super::session::Session;
use super::tidy::Directory;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SESSIONS: usize = 24;

/// From the file to sessions that outlive their nodes.
pub fn from_its_file() {
    if !cells_run_here("the cell on three hosts") {
        return;
    }
    let directory = Directory::new("hosts");
    let network = HostsNetwork::new(3);
    let mut cell = HostsCell::start(&directory, &network);
    cell.wait_settled();
    let service: SocketAddr = SERVICE.parse().unwrap();
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::open(&network.clients, service)).collect();
    count_all(&mut sessions, 5);
    cell.check_mirror();
    let mut dead = Vec::new();
    for _ in 0..2 {
        let node = busiest(&mut sessions, &dead);
        kill_under_load(&mut cell, node, &mut sessions);
        let served = places(&mut sessions);
        assert!(!served.contains_key(&node), "node {node} was killed: {served:?}");
        let begun = Instant::now();
        cell.start_node(node);
        cell.wait_settled();
        let settled = begun.elapsed();
        count_all(&mut sessions, 5);
        println!(
            "node {node} killed, all {SESSIONS} sessions went on: {served:?}; three nodes again after {settled:?}"
        );
        dead.push(node);
    }
    cell.check_status(&format!("failovers: {}; last ", dead.len()));
    let longest = sessions.iter().map(|session| session.longest).max().unwrap();
    println!("longest wait for a reply {longest:?}");
}

/// Half of the sessions have requests on their way when the node dies; the others ask when it is dead.
fn kill_under_load(cell: &mut HostsCell<'_>, node: u16, sessions: &mut [Session]) {
    let over = AtomicBool::new(false);
    let (busy, idle) = sessions.split_at_mut(SESSIONS / 2);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                count_all(busy, 1);
            }
        });
        // Ends the load whatever fails here.
        let _ending = Ending(&over);
        thread::sleep(Duration::from_millis(50));
        cell.kill(node);
        count_all(idle, 10);
    });
}

/// Says that it is over when it is dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn count_all(sessions: &mut [Session], times: usize) {
    for _ in 0..times {
        sessions.iter_mut().for_each(Session::count);
    }
}

/// Sessions by the node that serves them.
fn places(sessions: &mut [Session]) -> BTreeMap<u16, usize> {
    let mut served = BTreeMap::new();
    for session in sessions {
        *served.entry(session.node()).or_default() += 1;
    }
    served
}

/// The node with the most sessions that has not been killed before.
fn busiest(sessions: &mut [Session], dead: &[u16]) -> u16 {
    let served = places(sessions);
    let living = served.iter().filter(|(node, _)| !dead.contains(node));
    *living.max_by_key(|(_, count)| **count).unwrap_or_else(|| panic!("{served:?}")).0
}
