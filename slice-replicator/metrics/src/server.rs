//! Answers over HTTP, on a thread of its own.

use crate::connection::Connection;
use crate::error::MetricsError;
use crate::own_process;
use crate::reading::Reading;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Questions served at once. Full: the oldest is ended.
const CONNECTIONS_MAX: usize = 8;
/// Connections accepted between two looks at those that are open.
const ACCEPTS_PER_TURN_MAX: usize = 16;
/// How long one question may take.
const QUESTION_MAX: Duration = Duration::from_secs(2);
/// Between two looks for questions that take too long.
const LOOK: Duration = Duration::from_millis(500);
const LISTENER: Token = Token(CONNECTIONS_MAX);
const WAKE: Token = Token(CONNECTIONS_MAX + 1);

/// What the counting thread and the answering one share.
#[derive(Debug, Default)]
struct Board {
    reading: Mutex<Reading>,
    stop: AtomicBool,
}

/// Serves the latest [`Reading`] at `/metrics` until it is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    board: Arc<Board>,
    waker: Waker,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Binds the address and starts the thread.
    ///
    /// # Errors
    /// The address cannot be had, or no thread.
    pub fn start(address: SocketAddr) -> Result<Self, MetricsError> {
        let failed = |source| MetricsError::Listen { address, source };
        let mut listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let poll = Poll::new().map_err(MetricsError::os("epoll"))?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(MetricsError::os("eventfd"))?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(MetricsError::os("registration of a listener"))?;
        let board = Arc::new(Board::default());
        let mut responder =
            Responder { poll, listener, board: Arc::clone(&board), open: [const { None }; CONNECTIONS_MAX] };
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn(move || responder.run())
            .map_err(MetricsError::os("thread for metrics"))?;
        Ok(Self { board, waker, address, thread: Some(thread) })
    }

    /// The address, with the port that the system chose if 0 was asked for.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The values to tell from now on. Never waits: while somebody is being answered, this reading is left out and the
    /// next one comes.
    pub fn publish(&self, reading: Reading) {
        if let Ok(mut latest) = self.board.reading.try_lock() {
            *latest = reading;
        }
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.board.stop.store(true, Ordering::Relaxed);
        // It looks every half second in any case; a panic there has ended the process already.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Responder {
    poll: Poll,
    listener: TcpListener,
    board: Arc<Board>,
    open: [Option<Connection>; CONNECTIONS_MAX],
}

impl Responder {
    fn run(&mut self) {
        let mut events = Events::with_capacity(2 * CONNECTIONS_MAX);
        let mut more = false;
        while !self.board.stop.load(Ordering::Relaxed) {
            let sleep = if more { Duration::ZERO } else { LOOK };
            match self.poll.poll(&mut events, Some(sleep)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    tracing::error!(%error, "metrics are not served any more: epoll");
                    return;
                }
                _ => {}
            }
            for event in &events {
                self.advance(event.token().0);
            }
            // The listener is edge-triggered: what is left in the backlog is not announced again.
            more = self.accept();
            let now = Instant::now();
            for place in 0..CONNECTIONS_MAX {
                if self.open.get(place).and_then(Option::as_ref).is_some_and(|open| now >= open.until) {
                    self.end(place);
                }
            }
        }
    }

    fn advance(&mut self, place: usize) {
        let board = &self.board;
        let exposition = || {
            let mut reading = board.reading.lock().unwrap_or_else(PoisonError::into_inner).clone();
            own_process::add_to(&mut reading);
            reading.exposition()
        };
        if let Some(Some(connection)) = self.open.get_mut(place)
            && !connection.advance(exposition)
        {
            self.end(place);
        }
    }

    /// True: there may be more.
    fn accept(&mut self) -> bool {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            // A connection that is gone already, or no descriptors: the next one is announced.
            let Ok((stream, _)) = self.listener.accept() else { return false };
            let mut connection = Connection::new(stream, Instant::now() + QUESTION_MAX);
            let place = self.free_place();
            let both = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut connection.stream, Token(place), both).is_ok()
                && let Some(free) = self.open.get_mut(place)
            {
                *free = Some(connection);
            }
        }
        true
    }

    /// A free place; made from the oldest connection's if there is none.
    fn free_place(&mut self) -> usize {
        if let Some(free) = self.open.iter().position(Option::is_none) {
            return free;
        }
        let age = |place: &usize| self.open.get(*place).and_then(Option::as_ref).map(|open| open.until);
        let oldest = (0..CONNECTIONS_MAX).min_by_key(age).unwrap_or(0);
        self.end(oldest);
        oldest
    }

    fn end(&mut self, place: usize) {
        if let Some(mut gone) = self.open.get_mut(place).and_then(Option::take) {
            // The socket is closed right after; a failure here changes nothing.
            let _ = self.poll.registry().deregister(&mut gone.stream);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Metric;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_latest_reading_is_told_while_others_say_nothing() {
        let server = MetricsServer::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut reading = Reading::default();
        reading.count(Metric::NodeTurns, 41);
        server.publish(reading.clone());
        let silent: Vec<_> =
            (0..3 * CONNECTIONS_MAX).map(|_| TcpStream::connect(server.local_addr()).unwrap()).collect();
        let answer = ask(server.local_addr());
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\nescape_node_turns_total 41\n"), "{answer}");
        assert!(answer.contains("\nprocess_resident_memory_bytes "), "{answer}");
        drop(silent);
    }

    #[test]
    fn nobody_stays_longer_than_the_limit() {
        let server = MetricsServer::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut silent = TcpStream::connect(server.local_addr()).unwrap();
        silent.set_read_timeout(Some(10 * QUESTION_MAX)).unwrap();
        assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "the server ends it");
    }
}
