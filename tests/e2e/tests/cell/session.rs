//! A plain session: one connection, one request after the other, each reply checked.

use escape_fabric::netns::NetNs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a reply may take: longer than a failover, shorter than a lost session.
pub const REPLY_MAX: Duration = Duration::from_secs(5);
/// Adds one to the session's counter.
pub const COUNT: &[u8] = b"POST /counter HTTP/1.1\r\nHost: e2e\r\nContent-Length: 0\r\n\r\n";

const WHERE: &[u8] = b"GET /session HTTP/1.1\r\nHost: e2e\r\n\r\n";

/// How a session that should be lost behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Nothing came.
    Silent,
    /// Its connection ended.
    Closed,
    /// Its connection was reset.
    Reset,
    /// It answered.
    Answered,
}

/// A session that counts its requests, as the service does.
pub struct Session {
    stream: TcpStream,
    count: u64,
    /// The longest wait for a reply.
    pub longest: Duration,
}

impl Session {
    /// Connects from the clients' namespace.
    pub fn open(clients: &NetNs, service: SocketAddr) -> Self {
        let stream = clients.enter(|| TcpStream::connect_timeout(&service, REPLY_MAX)).unwrap().unwrap();
        stream.set_read_timeout(Some(REPLY_MAX)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, count: 0, longest: Duration::ZERO }
    }

    /// Its client's address and port, by which people name it.
    pub fn client(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }

    /// One request; the service must have counted exactly those of this session.
    pub fn count(&mut self) {
        let begun = Instant::now();
        self.stream.write_all(COUNT).unwrap();
        let reply = self.reply();
        self.longest = self.longest.max(begun.elapsed());
        self.count += 1;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        assert_eq!(reply.lines().last(), Some(self.count.to_string().as_str()), "{reply}");
    }

    /// Gives the session this much state.
    pub fn dirty(&mut self, bytes: u32) {
        write!(self.stream, "POST /dirty?n={bytes} HTTP/1.1\r\nHost: e2e\r\nContent-Length: 0\r\n\r\n").unwrap();
        let reply = self.reply();
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    }

    /// The node that serves the session now, by its own word.
    pub fn node(&mut self) -> u16 {
        self.stream.write_all(WHERE).unwrap();
        let reply = self.reply();
        let body = reply.lines().last().unwrap_or_default();
        let facts: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {reply}"));
        u16::try_from(facts["node"].as_u64().unwrap_or_else(|| panic!("no node in {reply}"))).unwrap()
    }

    /// Sends bytes and waits for nothing.
    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the session's end, at most so long: it is not to answer any more.
    pub fn wait_for_end(&mut self, limit: Duration) -> SessionEnd {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        match self.stream.read(&mut [0; 1024]) {
            Ok(0) => SessionEnd::Closed,
            Ok(_) => SessionEnd::Answered,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                SessionEnd::Silent
            }
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => SessionEnd::Reset,
            Err(_) => SessionEnd::Closed,
        }
    }

    fn reply(&mut self) -> String {
        reply(&mut self.stream)
    }
}

/// Head and body of the next reply on a connection.
pub fn reply(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                return text;
            }
        }
        let n = stream.read(&mut part).unwrap();
        assert!(n > 0, "the session was closed: {text:?}");
        bytes.extend(&part[..n]);
    }
}
