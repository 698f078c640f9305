//! Clients: sessions over HTTP, a checked stream, `curl`.

use super::process::enter;
use anyhow::{Context, Result, bail, ensure};
use escape_fabric::netns::NetNs;
use escape_session::pattern;
use rustix::net::sockopt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A reply comes within this, whatever has happened to the host: emulated hosts are slow.
pub const REPLY_MAX: Duration = Duration::from_secs(60);
/// TCP_USER_TIMEOUT of one client: more than emulated hosts take to be missed, and some retransmissions on a bad wire after that.
const USER_TIMEOUT_MS: u32 = 10_000;
/// A wait of this length is told: what has come to the hosts' logs meanwhile says why.
const LONG_WAIT: Duration = Duration::from_secs(4);
/// The service of the cell.
pub const HTTP: &str = "10.77.0.10:80";
/// Its second port.
pub const STREAM: &str = "10.77.0.10:9000";

fn connect(clients: &NetNs, service: &str) -> Result<TcpStream> {
    let service: SocketAddr = service.parse().context("the service's address")?;
    let begun = Instant::now();
    let stream = clients.enter(|| TcpStream::connect_timeout(&service, REPLY_MAX))?;
    let stream = stream.with_context(|| format!("connecting to {service}"))?;
    tell_long_wait(&stream, "its connection", begun.elapsed())?;
    stream.set_read_timeout(Some(REPLY_MAX)).and_then(|()| stream.set_nodelay(true)).context("a client's socket")?;
    Ok(stream)
}

fn tell_long_wait(stream: &TcpStream, what: &str, waited: Duration) -> Result<()> {
    if waited > LONG_WAIT {
        println!("lab: {} waited {:.1} s for {what}", client_of(stream)?, waited.as_secs_f64());
    }
    Ok(())
}

fn client_of(stream: &TcpStream) -> Result<String> {
    Ok(stream.local_addr().context("a client's address")?.to_string())
}

/// A session that counts its requests, as the service does, on one connection.
pub struct Session {
    stream: TcpStream,
    count: u64,
    /// When it has asked last.
    asked: Instant,
    /// The longest wait for a reply since the last look.
    pub longest: Duration,
}

impl Session {
    /// Opens one.
    pub fn open(clients: &NetNs) -> Result<Self> {
        Self::open_at(clients, HTTP)
    }

    /// Opens one at another port of the service.
    pub fn open_at(clients: &NetNs, service: &str) -> Result<Self> {
        Ok(Self { stream: connect(clients, service)?, count: 0, asked: Instant::now(), longest: Duration::ZERO })
    }

    /// Makes its client one of several kinds: another congestion control (T35), keep-alives that give up after three seconds, or a client
    /// that gives up when nothing of what it has sent is acknowledged for so long (T18). Returns which.
    pub fn be_of_kind(&self, number: usize) -> Result<String> {
        if number == 0 {
            let second = Duration::from_secs(1);
            sockopt::set_socket_keepalive(&self.stream, true)?;
            sockopt::set_tcp_keepidle(&self.stream, second)?;
            sockopt::set_tcp_keepintvl(&self.stream, second)?;
            sockopt::set_tcp_keepcnt(&self.stream, 3)?;
            return Ok("keep-alives of 1 s".to_owned());
        }
        if number == 1 {
            sockopt::set_tcp_user_timeout(&self.stream, USER_TIMEOUT_MS)?;
            return Ok(format!("a limit of {USER_TIMEOUT_MS} ms"));
        }
        let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
        let known = known.context("congestion controls")?;
        let known: Vec<&str> = known.split_ascii_whitespace().collect();
        let chosen = known.get(number % known.len().max(1)).context("no congestion control")?;
        sockopt::set_tcp_congestion(&self.stream, chosen).context(chosen.to_string())?;
        Ok(chosen.to_string())
    }

    /// Its client's address and port, by which people name it.
    pub fn client(&self) -> Result<String> {
        client_of(&self.stream)
    }

    /// One request; the service must have counted exactly those of this session.
    pub fn count(&mut self) -> Result<()> {
        self.begin_count()?;
        self.end_count()
    }

    /// The first half of it.
    pub fn begin_count(&mut self) -> Result<()> {
        self.asked = Instant::now();
        self.begin("POST /counter HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n\r\n")
    }

    /// The second half.
    pub fn end_count(&mut self) -> Result<()> {
        let body = self.awaited()?;
        self.count += 1;
        ensure!(body == self.count.to_string(), "the session has counted {body:?}, its client {}", self.count);
        Ok(())
    }

    /// What a file is.
    pub fn get(&mut self, path: &str) -> Result<String> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n"))
    }

    /// The node that serves it now.
    pub fn node(&mut self) -> Result<u16> {
        let body = self.ask("GET /session HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let facts: serde_json::Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        let node = facts.get("node").and_then(serde_json::Value::as_u64).with_context(|| body.clone())?;
        u16::try_from(node).context("a node's number")
    }

    /// Asks for something and does not wait for what comes.
    pub fn begin(&mut self, request: &str) -> Result<()> {
        self.stream.write_all(request.as_bytes()).context("sending a request")
    }

    /// Waits until the session is reset; anything else is an error.
    pub fn wait_for_reset(mut self, limit: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(limit)).context("a client's socket")?;
        let heard = self.stream.read(&mut [0; 256]);
        match heard {
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(()),
            other => bail!("no reset, but {other:?}"),
        }
    }

    /// Its client ends it, and waits for the other end. Returns the bytes that came unasked.
    pub fn end(mut self) -> Result<u64> {
        self.stream.shutdown(Shutdown::Write).context("the end of a session")?;
        std::io::copy(&mut self.stream, &mut std::io::sink()).context("waiting for the end of a session")
    }

    fn ask(&mut self, request: &str) -> Result<String> {
        self.asked = Instant::now();
        self.begin(request)?;
        self.awaited()
    }

    /// The reply to what was asked for.
    fn awaited(&mut self) -> Result<String> {
        let body = self.reply().with_context(|| format!("after {:.1} s", self.asked.elapsed().as_secs_f64()))?;
        let waited = self.asked.elapsed();
        self.longest = self.longest.max(waited);
        tell_long_wait(&self.stream, "a reply", waited)?;
        Ok(body)
    }

    fn reply(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let mut part = [0; 1024];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                if body.len() >= length.context("a reply without length")?.parse::<usize>().context("a length")? {
                    ensure!(head.starts_with("HTTP/1.1 200 "), "{text}");
                    return Ok(body.to_owned());
                }
            }
            let n = self.stream.read(&mut part).context("waiting for a reply")?;
            ensure!(n > 0, "the session was closed");
            bytes.extend(part.get(..n).unwrap_or_default());
        }
    }
}

/// A stream of checked bytes both ways.
pub struct Stream {
    stream: TcpStream,
    sent: u64,
    received: u64,
    last: Vec<u8>,
}

/// Bytes of the trailer, which nothing but the end tells from the rest.
const TRAILER: usize = 16;

impl Stream {
    /// Opens one.
    pub fn open(clients: &NetNs) -> Result<Self> {
        let stream = connect(clients, STREAM)?;
        stream.set_nonblocking(true).context("a stream")?;
        Ok(Self { stream, sent: 0, received: 0, last: Vec::new() })
    }

    /// Its client's address and port.
    pub fn client(&self) -> Result<String> {
        client_of(&self.stream)
    }

    /// Sends and receives for so long, at least so many bytes each way: all of them right.
    pub fn go_on(&mut self, at_least: u64) -> Result<Duration> {
        let (sent, received) = (self.sent + at_least, self.received + at_least);
        let (begun, mut moved, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
        while self.sent < sent || self.received < received {
            let any = self.send()? | self.receive()?;
            if any {
                longest = longest.max(moved.elapsed());
                moved = Instant::now();
            } else {
                ensure!(moved.elapsed() < REPLY_MAX, "nothing moved, after {} s", begun.elapsed().as_secs());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(longest)
    }

    fn send(&mut self) -> Result<bool> {
        // Not as fast as the socket: what waits in this kernel says nothing of the service.
        let mut piece = [0; 1024];
        pattern::fill(&mut piece, self.sent);
        match self.stream.write(&piece) {
            Ok(n) => {
                self.sent += n as u64;
                Ok(n > 0)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e).context("sending on the stream"),
        }
    }

    fn receive(&mut self) -> Result<bool> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => bail!("the stream was closed"),
            Ok(n) => {
                let piece = piece.get(..n).unwrap_or_default();
                let wrong = pattern::count_wrong(piece, self.received);
                ensure!(wrong == 0, "{wrong} wrong bytes of {n} at {}", self.received);
                self.received += n as u64;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e).context("receiving on the stream"),
        }
    }

    /// Ends it: the service tells how many bytes came and how many were wrong. Returns bytes each way.
    pub fn end(mut self) -> Result<(u64, u64)> {
        self.stream.shutdown(Shutdown::Write).context("the stream's end")?;
        self.stream.set_nonblocking(false).context("a stream")?;
        let mut piece = [0; 16 << 10];
        loop {
            let n = self.stream.read(&mut piece).context("waiting for the trailer")?;
            if n == 0 {
                break;
            }
            self.last.extend(piece.get(..n).unwrap_or_default());
            // All but what may be the trailer is pattern.
            let checked = self.last.len().saturating_sub(TRAILER);
            let pattern_bytes: Vec<u8> = self.last.drain(..checked).collect();
            ensure!(pattern::count_wrong(&pattern_bytes, self.received) == 0, "wrong bytes at {}", self.received);
            self.received += checked as u64;
        }
        let trailer: &[u8; TRAILER] = self.last.first_chunk().context("a stream without trailer")?;
        let word = |at: usize| trailer.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        ensure!(word(0) == self.sent, "the service has {} of {} bytes", word(0), self.sent);
        ensure!(word(8) == 0, "{} bytes came wrong to the service", word(8));
        Ok((self.sent, self.received))
    }
}

/// A download by `curl`, not faster than this, that runs by itself.
pub fn begin_curl(clients: &NetNs, path: &str, rate: &str) -> Result<Child> {
    let mut command = Command::new("curl");
    let limit = REPLY_MAX.as_secs().to_string();
    command.args(["-sS", "--fail", "--max-time", &limit, "--limit-rate", rate]).arg(format!("http://{HTTP}{path}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    enter(&mut command, clients, &[]);
    command.spawn().context("curl")
}

/// `curl` in the clients' namespace: a whole exchange with a client that is not this program's.
pub fn curl(clients: &NetNs, path: &str) -> Result<Vec<u8>> {
    let mut command = Command::new("curl");
    let limit = REPLY_MAX.as_secs().to_string();
    command.args(["-sS", "--fail", "--max-time", &limit]).arg(format!("http://{HTTP}{path}"));
    enter(&mut command, clients, &[]);
    let output = command.output().context("curl")?;
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
