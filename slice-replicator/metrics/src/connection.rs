//! One question over HTTP.

use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

/// Longest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 4096;
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A connection: reads one request, writes one answer, ends.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// When it is ended, whatever it does.
    pub(crate) until: Instant,
    head: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
}

impl Connection {
    pub(crate) const fn new(stream: TcpStream, until: Instant) -> Self {
        Self { stream, until, head: Vec::new(), answer: Vec::new(), sent: 0 }
    }

    /// Goes on as far as the socket lets it. `exposition` is asked for at most once. False: it is over.
    pub(crate) fn advance(&mut self, exposition: impl FnOnce() -> String) -> bool {
        if self.answer.is_empty() {
            match self.read() {
                Progress::Wait => return true,
                Progress::End => return false,
                Progress::Done => self.answer = answer_to(&self.head, exposition),
            }
        }
        self.write()
    }

    fn read(&mut self) -> Progress {
        let mut bytes = [0; 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Progress::End,
                Ok(n) => self.head.extend_from_slice(bytes.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Progress::Wait,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Progress::End,
            }
            if self.head.windows(4).any(|end| end == b"\r\n\r\n") || self.head.len() > HEAD_BYTES_MAX {
                return Progress::Done;
            }
        }
    }

    fn write(&mut self) -> bool {
        while let Some(rest) = self.answer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return false,
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        // The peer may be gone already; there is nothing left to tell it.
        let _ = self.stream.shutdown(Shutdown::Write);
        false
    }
}

enum Progress {
    Wait,
    Done,
    End,
}

fn answer_to(head: &[u8], exposition: impl FnOnce() -> String) -> Vec<u8> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if head.len() > HEAD_BYTES_MAX {
        answer("431 Request Header Fields Too Large", "")
    } else if method != b"GET" {
        answer("405 Method Not Allowed", "")
    } else if path == b"/metrics" || path.starts_with(b"/metrics?") {
        answer("200 OK", &exposition())
    } else {
        answer("404 Not Found", "metrics are at /metrics\n")
    }
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {TEXT}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metrics_are_told_and_only_asked_for() {
        let status = |head: &[u8]| {
            let answer = answer_to(head, || "x 1\n".into());
            String::from_utf8_lossy(&answer).split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(status(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), "200");
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), "404");
        assert_eq!(status(b"POST /metrics HTTP/1.1\r\n\r\n"), "405");
        assert_eq!(status(b"\r\n\r\n"), "405");
        assert_eq!(status(&[b'a'; HEAD_BYTES_MAX + 1]), "431");
    }
}
