//! One session of 64 floods its guest: the others wait hardly longer, and no buffer grows beyond its bound.

use super::cells_run_here;
use super::patience::patient;
use super::session::Session;
use super::victim::resident_kib;
use escape::cell::{CellPlan, LocalCell};
use escape::drill::Cell;
use escape_fabric::netns::NetNs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HONEST: usize = 63;
const SETTLE_MAX: Duration = Duration::from_secs(20);
const SOCKET_MAX: Duration = Duration::from_secs(5);
/// Rounds with and without the flood, in turn; requests of each session in one.
const ROUNDS: usize = 7;
const REQUESTS: usize = 3;
/// Time for the flood to begin before a round is measured, and for its remains to go after it ended.
const CALM: Duration = Duration::from_millis(100);
/// What is promised: the others' p99 with the flood, over that without.
const FACTOR: f64 = 1.2;
/// What this machine may add to a p99 by itself, where everything shares its processors: the client's own flooding thread works
/// there too.
const SLACK: Duration = Duration::from_millis(10);
/// What a node may grow by in all rounds, KiB: the quotas of one slice and what allocators keep.
const GROWTH_MAX_KIB: u64 = 48 << 10;
/// Requests that the flooder sends without reading a reply, again and again.
const FLOOD: &[u8] = b"GET /bytes?n=1099511627776 HTTP/1.1\r\nHost: e2e\r\n\r\n";

/// A client that asks for endless bytes and does not read them, one that reads them all, and one that sends garbage.
pub fn others_do_not_wait() {
    if !cells_run_here("a hostile session") {
        return;
    }
    let mut cell = LocalCell::start(CellPlan { timings: patient(), ..CellPlan::new(2 * (HONEST as u32 + 1)) }).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let clients = cell.network().clients.try_clone().unwrap();
    let (http, stream) = (cell.service_addresses().http, cell.service_addresses().stream);
    let mut sessions: Vec<Session> = (0..HONEST).map(|_| Session::open(&clients, http)).collect();
    round(&mut sessions);
    for flood in [Flood::NeverReads(http), Flood::Garbage(http), Flood::Stream(stream)] {
        let before: Vec<u64> = (0..3).map(|node| resident_kib(&cell, node)).collect();
        let (mut calm, mut flooded) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            calm.push(round(&mut sessions));
            let over = AtomicBool::new(false);
            flooded.push(thread::scope(|scope| {
                scope.spawn(|| flood.run(&clients, &over));
                let _ending = Ending(&over);
                thread::sleep(CALM);
                round(&mut sessions)
            }));
            thread::sleep(CALM);
        }
        let grown = (0..3).map(|node| resident_kib(&cell, node).saturating_sub(before[usize::from(node)])).max();
        let (calm, flooded, grown) = (median(calm), median(flooded), grown.unwrap_or_default());
        println!("{flood:?}: the others' p99 {flooded:?}, without it {calm:?}; a node grew by at most {grown} KiB");
        assert!(flooded <= calm.mul_f64(FACTOR) + SLACK, "{flood:?}: {flooded:?} against {calm:?}");
        assert!(grown <= GROWTH_MAX_KIB, "{flood:?}: a node grew by {grown} KiB");
    }
    for node in 0..3 {
        let status = cell.status(node).unwrap();
        assert!(status.is_settled() && status.slices > 0, "node {node}: {status:?}");
    }
    cell.shutdown();
}

/// p99 of the sessions' requests, one session after the other.
fn round(sessions: &mut [Session]) -> Duration {
    let mut waits = Vec::new();
    for _ in 0..REQUESTS {
        for session in &mut *sessions {
            let begun = Instant::now();
            session.count();
            waits.push(begun.elapsed());
        }
    }
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Says that it is over when it is dropped, whatever fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the hostile session does.
#[derive(Clone, Copy, Debug)]
enum Flood {
    /// Asks for 2^40 bytes a request, and reads none.
    NeverReads(SocketAddr),
    /// Sends what is no request, on a new connection whenever the last one was closed.
    Garbage(SocketAddr),
    /// Sends to the stream port and reads nothing, so that both directions are full.
    Stream(SocketAddr),
}

impl Flood {
    fn run(self, clients: &NetNs, over: &AtomicBool) {
        let (to, bytes) = match self {
            Self::NeverReads(to) => (to, FLOOD.to_vec()),
            Self::Garbage(to) => (to, vec![0xa5; 16 << 10]),
            Self::Stream(to) => (to, vec![0; 64 << 10]),
        };
        let begun = Instant::now();
        while !over.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(60) {
            let stream = clients.enter(|| TcpStream::connect_timeout(&to, SOCKET_MAX)).unwrap();
            // No slot, or no answer in time: that is the flooder's trouble.
            let Ok(stream) = stream else { continue };
            stream.set_nonblocking(true).unwrap();
            self.flood(stream, &bytes, over);
        }
    }

    /// Until it is over, or the server has closed.
    fn flood(self, mut stream: TcpStream, bytes: &[u8], over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let _ = stream.write(bytes);
            let reads = matches!(self, Self::Garbage(_));
            if reads && !matches!(stream.read(&mut [0; 4096]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock) {
                return;
            }
            thread::sleep(Duration::from_micros(200));
        }
    }
}
