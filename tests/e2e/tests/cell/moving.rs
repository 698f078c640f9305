//! Live sessions are moved by `escape move`, back and forth under load, and outlive the node that they were moved to.

use super::cells_run_here;
use super::hosts_cell::{HostsCell, SERVICE};
use super::hosts_network::HostsNetwork;
use super::session::Session;
use super::tidy::Directory;
use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

const SESSIONS: usize = 12;
/// Times that each session is moved.
const ROUNDS: usize = 6;
/// Longest wait of a client of a moved session. A move takes some milliseconds; the rest is for a busy machine. A client that had
/// to repeat something would wait for 200 ms at least.
const WAIT_MAX: Duration = Duration::from_millis(150);

/// Sessions count on wherever they are.
pub fn sessions_move_back_and_forth() {
    if !cells_run_here("moves of live sessions") {
        return;
    }
    let directory = Directory::new("moving");
    let network = HostsNetwork::new(3);
    let mut cell = HostsCell::start(&directory, &network);
    cell.wait_settled();
    let service: SocketAddr = SERVICE.parse().unwrap();
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::open(&network.clients, service)).collect();
    sessions.iter_mut().for_each(Session::count);
    let mut waits = Vec::new();
    for round in 0..ROUNDS {
        for session in &mut sessions {
            let from = session.node();
            session.longest = Duration::ZERO;
            let mut command = cell.move_command(&session.client(), &[]);
            let operator = &network.edge;
            let told = std::thread::scope(|scope| {
                let mover = scope.spawn(move || moved(&operator.enter(|| command.output()).unwrap().unwrap()));
                while !mover.is_finished() {
                    session.count();
                }
                mover.join().unwrap()
            });
            session.count();
            waits.push(session.longest);
            assert_eq!(told["from"], from, "{told}");
            assert_eq!(told["to"], session.node(), "round {round}: it is not where it was moved to: {told}");
        }
    }
    waits.sort_unstable();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!("{} moves under load: a client waited for {median:?} (median), {longest:?} (longest)", waits.len());
    assert!(longest < WAIT_MAX, "a client waited for {longest:?}: {waits:?}");
    wrong_wishes(&cell, &mut sessions);
    the_new_owner_dies(&mut cell, &mut sessions);
}

/// What cannot be done is told, and nothing moves.
fn wrong_wishes(cell: &HostsCell<'_>, sessions: &mut [Session]) {
    let client = sessions[0].client();
    let at = sessions[0].node();
    let told = refused(&cell.move_session(&client, &["--to", &at.to_string()]));
    assert!(told["cause"].as_str().unwrap().contains("stands by for it"), "{told}");
    assert_eq!(sessions[0].node(), at);
    let told = refused(&cell.move_session("10.9.9.9:999", &[]));
    assert_eq!(told["cause"], "no node has this session", "{told}");
    let wrong = cell.move_session("nobody", &[]);
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
}

/// A moved session is protected where it is: its former owner stands by for it.
fn the_new_owner_dies(cell: &mut HostsCell<'_>, sessions: &mut [Session]) {
    let victim = sessions[0].node();
    let mut moved_there = 1;
    for session in sessions.iter_mut().skip(1) {
        let told = cell.move_session(&session.client(), &["--to", &victim.to_string()]);
        moved_there += usize::from(told.status.success());
    }
    cell.kill(victim);
    for session in sessions.iter_mut() {
        (0..3).for_each(|_| session.count());
        assert_ne!(session.node(), victim);
    }
    println!("node {victim} was killed with {moved_there} sessions moved to it: all {} count on", sessions.len());
}

fn moved(output: &Output) -> serde_json::Value {
    let told = json(output);
    assert!(output.status.success() && told["moved"] == true, "{told}");
    told
}

fn refused(output: &Output) -> serde_json::Value {
    let told = json(output);
    assert!(output.status.code() == Some(1) && told["moved"] == false, "{told}");
    told
}

fn json(output: &Output) -> serde_json::Value {
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said:?} {why:?}"))
}
