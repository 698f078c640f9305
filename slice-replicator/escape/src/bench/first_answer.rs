//! A client that waits for a service to come up and takes note of its first byte.
//!
//! A SYN that meets no guest is lost, and TCP repeats it only after a second; so the client begins another connection
//! every millisecond and uses the first that is accepted.

use super::error::BenchError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const RETRY: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
const LIMIT: Duration = Duration::from_secs(10);
/// Connections that may be under way; a guest that takes longer than this many milliseconds is tried with those.
const CONNECTIONS_MAX: usize = 512;
const REQUEST: &[u8] = b"GET /session HTTP/1.1\r\nHost: bench\r\n\r\n";

/// When a connection was accepted and when its first byte came.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstAnswer {
    /// The connection was accepted.
    pub(super) connected: Instant,
    /// The answer's first byte was read.
    pub(super) answered: Instant,
}

/// Waits; the calling thread must be in the client's namespace.
pub(super) fn first_answer(service: SocketAddr) -> Result<FirstAnswer, BenchError> {
    let begun = Instant::now();
    let mut stream = accepted(service, begun)?;
    let connected = Instant::now();
    let failed = || BenchError::io(format!("the first request to {service}"));
    stream.set_nonblocking(false).map_err(failed())?;
    stream.set_read_timeout(Some(LIMIT)).map_err(failed())?;
    stream.write_all(REQUEST).map_err(failed())?;
    let mut first = [0; 1];
    stream.read_exact(&mut first).map_err(failed())?;
    let answered = Instant::now();
    if first == *b"H" {
        return Ok(FirstAnswer { connected, answered });
    }
    Err(BenchError::Answer { what: "GET /session".into(), detail: format!("it begins with {:#x}", first[0]) })
}

fn accepted(service: SocketAddr, begun: Instant) -> Result<TcpStream, BenchError> {
    let mut waiting: Vec<TcpStream> = Vec::new();
    while begun.elapsed() < LIMIT {
        if waiting.len() < CONNECTIONS_MAX {
            waiting.extend(begin(service).map_err(BenchError::io("a socket"))?);
        }
        let mut polled: Vec<PollFd<'_>> = waiting.iter().map(|s| PollFd::new(s, PollFlags::OUT)).collect();
        let news = poll(&mut polled, Some(&RETRY)).map_err(|e| BenchError::io("poll")(e.into()))?;
        if news == 0 {
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|p| !p.revents().is_empty()).collect();
        for index in (0..ready.len()).rev().filter(|i| ready.get(*i) == Some(&true)) {
            let stream = waiting.swap_remove(index);
            if matches!(stream.take_error(), Ok(None)) && stream.peer_addr().is_ok() {
                return Ok(stream);
            }
        }
    }
    Err(BenchError::Answer {
        what: format!("connections to {service}"),
        detail: format!("none was accepted within {} s", LIMIT.as_secs()),
    })
}

/// A connection under way; `None` if it failed at once.
fn begin(service: SocketAddr) -> std::io::Result<Option<TcpStream>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&service.into()) {
        Ok(()) => Ok(Some(socket.into())),
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(Some(socket.into())),
        Err(_) => Ok(None),
    }
}
