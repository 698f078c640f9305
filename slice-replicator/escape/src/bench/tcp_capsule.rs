//! What it costs to take a kernel's TCP connection out of its socket, and to make a socket of it again; and what the VMM does with each of its
//! segments.
//!
//! Connections on the loopback of a network namespace of their own: no packet is on its way while a connection is nowhere.
//! Each must carry bytes both ways afterwards.

use super::derived::nanos_of_segments;
use super::error::BenchError;
use super::percentiles::Percentiles;
use super::tcp_capsule_report::TcpCapsuleReport;
use crate::load::raise_file_limit;
use escape_fabric::links::Links;
use escape_fabric::netns::NetNs;
use escape_tcp::{Frozen, TcpCapsule};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// No wait is longer.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The loopback interface of every namespace.
const LOOPBACK: u32 = 1;
/// Files open besides the connections' two ends.
const OTHER_FILES: u64 = 64;
const NS_PER_US: f64 = 1e3;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct TcpCapsulePlan {
    /// Connections.
    pub connections: usize,
    /// Threads that restore them.
    pub threads: usize,
    /// Bytes of each that its program has not read.
    pub unread_bytes: usize,
}

/// Measures.
///
/// # Errors
/// What could not be set up, taken out or restored, or which connection did not go on.
pub fn measure_tcp_capsule(plan: &TcpCapsulePlan) -> Result<TcpCapsuleReport, BenchError> {
    raise_file_limit(2 * plan.connections as u64 + OTHER_FILES)?;
    let namespace = NetNs::create().map_err(BenchError::setup("loopback"))?;
    Links::open_in(&namespace).and_then(|mut links| links.set_up(LOOPBACK)).map_err(BenchError::setup("loopback"))?;
    let measured = namespace.enter(|| measure_here(plan));
    measured.map_err(BenchError::setup("loopback"))?
}

fn measure_here(plan: &TcpCapsulePlan) -> Result<TcpCapsuleReport, BenchError> {
    let (mut clients, servers) = connect(plan)?;
    let mut dumps = Vec::with_capacity(servers.len());
    let mut capsules = Vec::with_capacity(servers.len());
    let mut largest = 0;
    for server in servers {
        let begun = Instant::now();
        let frozen = Frozen::freeze(server.into()).map_err(|(_, error)| failed("taking a connection out", error))?;
        let bytes = frozen.close().encode();
        dumps.push(nanos(begun));
        largest = largest.max(bytes.len());
        capsules.push(bytes);
    }
    let begun = Instant::now();
    let restored = restore_all(&capsules, plan.threads)?;
    let all = begun.elapsed();
    let (sockets, mut restores): (Vec<OwnedFd>, Vec<u64>) = restored.into_iter().unzip();
    for (client, socket) in clients.iter_mut().zip(sockets) {
        goes_on(client, socket.into(), plan.unread_bytes)?;
    }
    Ok(TcpCapsuleReport {
        connections: plan.connections,
        threads: plan.threads,
        unread_bytes: plan.unread_bytes,
        capsule_bytes: largest,
        dump_us: Percentiles::of_ns(&mut dumps, NS_PER_US),
        restore_us: Percentiles::of_ns(&mut restores, NS_PER_US),
        derive_us_per_segment: Percentiles::of_ns(&mut nanos_of_segments(plan.connections)?, NS_PER_US),
        restore_all_ms: (all.as_secs_f64() * 1e5).round() / 1e2,
    })
}

/// Clients' and servers' ends.
fn connect(plan: &TcpCapsulePlan) -> Result<(Vec<TcpStream>, Vec<TcpStream>), BenchError> {
    let io = |what: &str| BenchError::io(format!("loopback: {what}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io("listen"))?;
    let address: SocketAddr = listener.local_addr().map_err(io("listen"))?;
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    let unread = vec![b'u'; plan.unread_bytes];
    for _ in 0..plan.connections {
        let mut client = TcpStream::connect_timeout(&address, WAIT_MAX).map_err(io("connect"))?;
        let (server, _) = listener.accept().map_err(io("accept"))?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(WAIT_MAX)).map_err(io("timeout"))?;
            stream.set_nodelay(true).map_err(io("TCP_NODELAY"))?;
        }
        client.write_all(&unread).map_err(io("write"))?;
        clients.push(client);
        servers.push(server);
    }
    Ok((clients, servers))
}

/// Sockets and nanoseconds, in the order of the capsules.
fn restore_all(capsules: &[Vec<u8>], threads: usize) -> Result<Vec<(OwnedFd, u64)>, BenchError> {
    let share = capsules.len().div_ceil(threads.max(1)).max(1);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = capsules
            .chunks(share)
            .map(|part| scope.spawn(|| part.iter().map(|bytes| restore(bytes)).collect()))
            .collect();
        workers.into_iter().map(|worker| worker.join()).collect()
    });
    let mut restored = Vec::with_capacity(capsules.len());
    for part in parts {
        let part: Result<Vec<_>, BenchError> = part.map_err(|_| failed("restoring", "a thread ended"))?;
        restored.extend(part?);
    }
    Ok(restored)
}

fn restore(bytes: &[u8]) -> Result<(OwnedFd, u64), BenchError> {
    let begun = Instant::now();
    let capsule = TcpCapsule::decode(bytes).map_err(|error| failed("decoding a capsule", error))?;
    let socket = capsule.restore().map_err(|error| failed("restoring a connection", error))?;
    Ok((socket, nanos(begun)))
}

/// What was not read is there, and both directions work.
fn goes_on(client: &mut TcpStream, mut server: TcpStream, unread: usize) -> Result<(), BenchError> {
    let io = |what: &str| BenchError::io(format!("a restored connection: {what}"));
    server.set_read_timeout(Some(WAIT_MAX)).map_err(io("timeout"))?;
    client.write_all(b"ping").map_err(io("the client writes"))?;
    let mut all = vec![0; unread + 4];
    server.read_exact(&mut all).map_err(io("the server reads"))?;
    if all.iter().take(unread).any(|byte| *byte != b'u') || !all.ends_with(b"ping") {
        return Err(failed("a restored connection", "other bytes than were sent"));
    }
    server.write_all(b"pong").map_err(io("the server writes"))?;
    let mut answer = [0; 4];
    client.read_exact(&mut answer).map_err(io("the client reads"))?;
    if answer == *b"pong" { Ok(()) } else { Err(failed("a restored connection", "another answer than was sent")) }
}

fn failed(what: &str, why: impl ToString) -> BenchError {
    BenchError::Answer { what: what.to_owned(), detail: why.to_string() }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_on_and_are_counted() {
        let plan = TcpCapsulePlan { connections: 20, threads: 3, unread_bytes: 100 };
        match measure_tcp_capsule(&plan) {
            Ok(report) => assert!(
                report.restore_us.p50 > 0.0 && report.derive_us_per_segment.p50 > 0.0 && report.capsule_bytes > 100,
                "{report:?}"
            ),
            Err(error @ BenchError::Setup { .. }) => println!("SKIPPED: {error}"),
            Err(error) => panic!("{error}"),
        }
    }
}
