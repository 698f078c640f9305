//! One client connection, one request at a time.

use super::error::BenchError;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest answer; those that are measured have some 150 bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// A keep-alive HTTP connection with one request in flight.
#[derive(Debug)]
pub(super) struct Requests {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Requests {
    /// Connects; `enter` moves the connecting thread into the client's namespace.
    pub(super) fn connect(service: SocketAddr, enter: crate::load::Enter) -> Result<Self, BenchError> {
        let connect = move || {
            enter()?;
            let stream = TcpStream::connect_timeout(&service, ANSWER_LIMIT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            Ok(stream)
        };
        // The socket belongs to the namespace for life; the thread's only task is to be in it.
        let joined = std::thread::spawn(connect).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let stream = joined.map_err(BenchError::io(format!("connection to {service}")))?;
        Ok(Self { stream, buffer: vec![0; ANSWER_BYTES_MAX] })
    }

    /// The client's own address and port.
    pub(super) fn client(&self) -> Result<SocketAddr, BenchError> {
        self.stream.local_addr().map_err(BenchError::io("a client's address"))
    }

    /// Changes `changed` bytes of the session `count` times; the nanoseconds of each, from sending to the whole answer.
    pub(super) fn dirty(&mut self, changed: usize, count: usize, into: &mut Vec<u64>) -> Result<(), BenchError> {
        let request = format!("POST /dirty?n={changed} HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n");
        for _ in 0..count {
            let begun = Instant::now();
            self.one(request.as_bytes())?;
            into.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn one(&mut self, request: &[u8]) -> Result<(), BenchError> {
        self.stream.write_all(request).map_err(BenchError::io("sending a request"))?;
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            let n = self.stream.read(room).map_err(BenchError::io("waiting for an answer"))?;
            if n == 0 {
                return Err(self.refused("the connection ended or the answer is too long", filled));
            }
            filled += n;
            let answer = self.buffer.get(..filled).unwrap_or_default();
            match whole_length(answer) {
                Some(length) if length == filled => break,
                Some(length) if length < filled => return Err(self.refused("more than one answer", filled)),
                _ => {}
            }
        }
        if self.buffer.starts_with(b"HTTP/1.1 2") { Ok(()) } else { Err(self.refused("no success", filled)) }
    }

    fn refused(&self, what: &str, filled: usize) -> BenchError {
        let start = self.buffer.get(..filled.min(120)).unwrap_or_default();
        BenchError::Answer { what: "POST /dirty".into(), detail: format!("{what}: {}", start.escape_ascii()) }
    }
}

/// Bytes of the answer once its head is there; an answer without a length has no body (204).
fn whole_length(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    end.checked_add(length.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is_there() {
        assert_eq!(whole_length(b"HTTP/1.1 200 OK\r\nContent-Len"), None);
        assert_eq!(whole_length(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(27));
        assert_eq!(whole_length(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"), Some(43));
    }
}
